-- submit: call wake_ms run plan name process_id queue retention_ms total sources
-- Start a run. ARGV: header, input, plan document, rows… (the last two only if the plan may be unknown).
-- Replay: a run that exists is left alone. Returns {'ok' | 'plan_unknown', wake-ups}.
local base, plan = key_of('run', header.run), key_of('plan', header.plan)
for _, group in ipairs(header.sources) do touched[group[2] ~= '' and group[2] or header.queue] = true end
if call('EXISTS', base) == 1 then return {'ok', wake_ups()} end
if call('EXISTS', plan) == 0 then
  if #ARGV < 3 then return {'plan_unknown', {}} end
  call('HSET', plan, 'document', ARGV[3])
  for first = 4, #ARGV, 500 do
    local fields = {}
    for position = first, math.min(first + 499, #ARGV) do
      fields[#fields + 1] = position - 4
      fields[#fields + 1] = ARGV[position]
    end
    call('HSET', plan, unpack(fields))
  end
end
call('HINCRBY', plan, 'runs', 1)
call('PERSIST', plan)
call('HSET', base, 'status', 'pending', 'plan', header.plan, 'queue', header.queue, 'retention_ms', header.retention_ms,
  'remaining', header.total, 'total', header.total, 'name', header.name, 'process_id', header.process_id,
  'submitted', now, 'input', ARGV[2])
if header.total == 0 then
  finish(run_of(header.run), 'completed')
  return {'ok', {}}
end
for _, group in ipairs(header.sources) do
  local lane, queue = group[1], group[2] ~= '' and group[2] or header.queue
  local list = key_of('queue', queue, lane)
  for first = 1, #group[3], 500 do
    local entries = {}
    for position = first, math.min(first + 499, #group[3]) do
      entries[#entries + 1] = header.run .. ' ' .. group[3][position]
    end
    call('RPUSH', list, unpack(entries))
  end
end
return {'ok', wake_ups()}
