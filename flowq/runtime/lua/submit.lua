-- submit: runs asked plan name process_id queue queues retention_ms deadline_ms total canvas held parked most_open
-- Start runs of one plan. ARGV: header, the input of each. `asked`: what the caller asks for with each, in short; of
-- idempotent submits. `queues`: those of the nodes that a run begins with. `held`: they start with their first messages.
-- `parked`: what is sent when one ends.
-- Replay: a run that exists is left alone. Returns {for each run 'ok' | 'plan_unknown' | 'full' | 'other' (it exists, and
-- is not what is asked for), messages, the epoch, the runs with which `advance` is to go on}.
this.rings_twice = true
local RUN = 2 -- edges that take as long as a run does, besides the nodes that it begins with
local plan, is_canvas, is_empty = key_of('plan', header.plan), header.canvas ~= '', header.total == 0
local chunks, first, canvas = unpack(call('HMGET', plan, 'sources', 'sources:1', 'c' .. header.canvas))
local is_known = chunks and (canvas or not is_canvas)
local room = header.most_open > 0 and header.most_open - call('SCARD', key_of('open')) or math.huge
local said, unfinished, new, begun = {}, {}, {}, {}
for position, id in ipairs(header.runs) do
  local base, asked = key_of('run', id), header.asked[position] or ''
  local status, before = unpack(begun[id] or call('HMGET', base, 'status', 'asked')) -- it may stand here twice
  said[position] = 'ok'
  if status and asked ~= '' and before ~= asked then
    said[position] = 'other'
  elseif status then
    if not is_canvas then
      for _, queue in ipairs(header.queues) do touched[queue] = true end
    end
    if call('EXISTS', base .. ':todo') == 1 then unfinished[#unfinished + 1] = id end
  elseif not is_known then
    said[position] = 'plan_unknown'
  elseif room <= 0 then
    said[position] = 'full'
  else
    new[#new + 1], begun[id] = id, {'pending', asked, args[position + 1]}
    if not (header.held or is_empty) then room = room - 1 end
  end
end

-- Up to here nothing is written: a server without memory refuses what comes next, and so all runs or none.
local epoch = call('GET', key_of('epoch'))
if not epoch then
  epoch = header.call .. ' ' .. clock[1] .. '.' .. clock[2]
  call('SET', key_of('epoch'), epoch, 'PX', 30 * 86400000)
end
if #new == 0 then return {said, wake_ups(), epoch, unfinished} end
if header.held and not is_empty then
  local kept = math.max(now + header.retention_ms, number_or(call('HGET', plan, 'kept') or nil, 0))
  call('HSET', plan, 'kept', kept)
  if number_or(call('HGET', plan, 'runs') or nil, 0) <= 0 then call('PEXPIREAT', plan, kept) end
else
  call('HINCRBY', plan, 'runs', #new)
  call('PERSIST', plan)
  in_pieces('SADD', key_of('open'), new)
end
local head = {'pending', header.plan, header.queue, header.retention_ms, is_canvas and header.canvas, header.held, false,
  false, now_text, false}
local due = header.deadline_ms > 0 and not is_empty and now + header.deadline_ms
for _, id in ipairs(new) do
  local base, _, asked, input = key_of('run', id), unpack(begun[id])
  call('HSET', base, 'status', 'pending', 'plan', header.plan, 'queue', header.queue, 'retention_ms', header.retention_ms,
    'remaining', header.total, 'total', header.total, 'name', header.name, 'process_id', header.process_id,
    'submitted', now_text, 'input', input)
  if is_canvas then call('HSET', base, 'canvas', header.canvas) end
  if header.held then call('HSET', base, 'held', 1) end
  if header.parked ~= '' then call('HSET', base, 'then', header.parked) end
  if asked ~= '' then call('HSET', base, 'asked', asked) end
  if due then
    call('HSET', base, 'deadline', header.deadline_ms)
    call('ZADD', key_of('timers'), due, id .. ' deadline 0')
  end
  local run = known_run(id, base, head)
  if first and not run.rows['sources:1'] then know(run, 'sources:1', first) end
  -- All sources of a canvas that is held at once: none of it may start on its own.
  for number = 1, tonumber(chunks) do
    if this.budget > 0 or header.held then open_sources(run, number) else later(run, 'sources', number) end
  end
  this.budget = this.budget - RUN
  if run.todo then
    leave(run)
    call('ZADD', key_of('timers'), now, id .. ' todo 0')
    unfinished[#unfinished + 1] = id
  end
  if is_empty then
    finish(run, 'completed')
  elseif header.held then
    for _, suffix in ipairs({'', ':due'}) do call('PEXPIRE', base .. suffix, header.retention_ms) end
  elseif is_canvas then
    watch(run, now + is_lost_after())
  end
end
return {said, wake_ups(), epoch, unfinished}
