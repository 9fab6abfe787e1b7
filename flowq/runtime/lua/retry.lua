-- retry: run ended staged counters
-- Open an ended run again. What is made anew stands in the list `staged`: "put <key> <record>", "drop <key>" and, last,
-- "ready <key>" (see reopening.py). Until the first of these, what is left of the run's first life counts for nothing:
-- entries of lists, timers, messages, attempts that still run. `counters` are the head's from now on. `ended`: when the
-- run had ended as the caller saw it. It goes on in pull dispatch: messages of its canvas may still be on their way.
-- Returns {'ok' | 'changed', messages, 1 if `advance` is to go on}, or false if there is no such run.
local run = run_of(header.run)
if not run then return false end
local plan, ended = key_of('plan', run.plan), call('HGET', run.base, 'ended')
if is_open(run) or ended ~= header.ended or call('EXISTS', header.staged, plan) < 2 then return {'changed', {}, 0} end
call('RENAME', header.staged, run.base .. ':todo')
call('HDEL', run.base, 'ended', 'reason', 'canvas', 'held', 'paused')
local fields = {}
for name, value in pairs(header.counters) do
  fields[#fields + 1] = name
  fields[#fields + 1] = value
end
call('HSET', run.base, 'status', 'running', 'reopening', 1, unpack(fields))
if call('HGET', run.base, 'then') == '' then call('HDEL', run.base, 'then') end
for _, key in ipairs({run.base, run.nodes, run.values, run.base .. ':failures', run.base .. ':events', run.base .. ':todo',
                      key_of('values', run.id), plan}) do
  call('PERSIST', key)
end
call('HINCRBY', plan, 'runs', 1)
call('SADD', key_of('open'), run.id)
call('ZREM', key_of('canvas'), run.id)
call('XADD', run.base .. ':events', '*', 'e', 'run running 0 ')
run.status, run.canvas, run.held, run.paused = 'running', false, false, false
run.reopening, run.todo = '1', true
propagate(run)
flush_all()
return {'ok', wake_ups(), run.todo and 1 or 0}
