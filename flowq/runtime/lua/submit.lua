-- submit: run plan name process_id queue queues retention_ms deadline_ms total canvas held parked asked most_open
-- Start a run. ARGV: header, input. `queues`: those of the nodes that it begins with. `held`: it starts with its first
-- message. `parked`: what is sent when it ends. `asked`: what the caller asks for, in short; of an idempotent submit.
-- Replay: a run that exists is left alone. Returns {'ok' | 'plan_unknown' | 'full' | 'other' (the run exists, and is not
-- what is asked for), messages, the epoch, 1 if `advance` is to go on}.
local base, plan = key_of('run', header.run), key_of('plan', header.plan)
local is_canvas = header.canvas ~= ''
call('SET', key_of('epoch'), header.call .. ' ' .. clock[1] .. '.' .. clock[2], 'NX', 'PX', 30 * 86400000)
local epoch = call('GET', key_of('epoch'))
local before = call('HMGET', base, 'status', 'asked')
if before[1] then
  if header.asked ~= '' and before[2] ~= header.asked then return {'other', {}, epoch, 0} end
  if not is_canvas then
    for _, queue in ipairs(header.queues) do touched[queue] = true end
  end
  return {'ok', wake_ups(), epoch, call('EXISTS', base .. ':todo')}
end
local chunks, known_canvas = unpack(call('HMGET', plan, 'sources', 'c' .. header.canvas))
if not chunks or (is_canvas and not known_canvas) then return {'plan_unknown', {}, epoch, 0} end
if header.most_open > 0 and call('SCARD', key_of('open')) >= header.most_open then return {'full', {}, epoch, 0} end

call('HSET', base, 'status', 'pending', 'plan', header.plan, 'queue', header.queue, 'retention_ms', header.retention_ms,
  'remaining', header.total, 'total', header.total, 'name', header.name, 'process_id', header.process_id,
  'submitted', now, 'input', ARGV[2])
if is_canvas then call('HSET', base, 'canvas', header.canvas) end
if header.held then call('HSET', base, 'held', 1) end
if header.parked ~= '' then call('HSET', base, 'then', header.parked) end
if header.asked ~= '' then call('HSET', base, 'asked', header.asked) end
if header.held and header.total > 0 then
  local kept = math.max(now + header.retention_ms, number_or(call('HGET', plan, 'kept') or nil, 0))
  call('HSET', plan, 'kept', kept)
  if number_or(call('HGET', plan, 'runs') or nil, 0) <= 0 then call('PEXPIREAT', plan, kept) end
else
  call('HINCRBY', plan, 'runs', 1)
  call('PERSIST', plan)
  call('SADD', key_of('open'), header.run)
end
local run = run_of(header.run)
if header.total == 0 then
  finish(run, 'completed')
  return {'ok', wake_ups(), epoch, 0}
end
if header.deadline_ms > 0 then
  call('HSET', base, 'deadline', header.deadline_ms)
  call('ZADD', key_of('timers'), now + header.deadline_ms, header.run .. ' deadline 0')
end
-- All sources of a canvas that is held at once: none of it may start on its own.
for number = 1, tonumber(chunks) do
  if budget > 0 or header.held then open_sources(run, number) else later(run, 'sources', number) end
end
if run.todo then
  leave(run)
  call('ZADD', key_of('timers'), now, run.id .. ' todo 0')
end
if header.held then
  for _, suffix in ipairs({'', ':due'}) do call('PEXPIRE', base .. suffix, header.retention_ms) end
elseif is_canvas then
  watch(run, now + is_lost_after())
end
return {'ok', wake_ups(), epoch, run.todo and 1 or 0}
