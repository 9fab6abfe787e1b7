-- submit: run plan name process_id queue retention_ms total sources canvas held parked
-- Start a run. ARGV: header, input, plan document, rows…, and for a canvas its fields: name, value… (all but the first
-- two only if the plan, or this canvas of it, may be unknown). `held`: it starts with its first message. `parked`: what
-- is sent when it ends. Replay: a run that exists is left alone. Returns {'ok' | 'plan_unknown', messages}.
local base, plan = key_of('run', header.run), key_of('plan', header.plan)
local is_canvas = header.canvas ~= ''
if not is_canvas then
  for _, group in ipairs(header.sources) do touched[group[2] ~= '' and group[2] or header.queue] = true end
end
if call('EXISTS', base) == 1 then return {'ok', wake_ups()} end

local function store(first, last, name_of)
  for from = first, last, 500 do
    local fields = {}
    for position = from, math.min(from + 499, last) do
      local name, value = name_of(position)
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
    call('HSET', plan, unpack(fields))
  end
end

local knows_plan = call('EXISTS', plan) == 1
local knows_canvas = not is_canvas or call('HEXISTS', plan, 'c' .. header.canvas) == 1
if not (knows_plan and knows_canvas) and #ARGV < 3 then return {'plan_unknown', {}} end
local rows_end = 3 + header.total
if not knows_plan then
  call('HSET', plan, 'document', ARGV[3])
  store(4, rows_end, function(position) return position - 4, ARGV[position] end)
end
if not knows_canvas then
  local pairs_of_fields = (#ARGV - rows_end) / 2
  store(1, pairs_of_fields, function(number)
    return 'c' .. header.canvas .. ':' .. ARGV[rows_end + 2 * number - 1], ARGV[rows_end + 2 * number]
  end)
  call('HSET', plan, 'c' .. header.canvas, 1)
end
call('HSET', base, 'status', 'pending', 'plan', header.plan, 'queue', header.queue, 'retention_ms', header.retention_ms,
  'remaining', header.total, 'total', header.total, 'name', header.name, 'process_id', header.process_id,
  'submitted', now, 'input', ARGV[2])
if is_canvas then call('HSET', base, 'canvas', header.canvas) end
if header.held then call('HSET', base, 'held', 1) end
if header.parked ~= '' then call('HSET', base, 'then', header.parked) end
if header.held and header.total > 0 then
  local kept = math.max(now + header.retention_ms, number_or(call('HGET', plan, 'kept') or nil, 0))
  call('HSET', plan, 'kept', kept)
  if number_or(call('HGET', plan, 'runs') or nil, 0) <= 0 then call('PEXPIREAT', plan, kept) end
else
  call('HINCRBY', plan, 'runs', 1)
  call('PERSIST', plan)
end
if header.total == 0 then
  finish(run_of(header.run), 'completed')
  return {'ok', wake_ups()}
end
for _, group in ipairs(header.sources) do
  local lane, queue = group[1], group[2] ~= '' and group[2] or header.queue
  local list = is_canvas and base .. ':due' or key_of('queue', queue, lane)
  local due = header.held and '+inf' or now + is_lost_after()
  for first = 1, #group[3], 500 do
    local entries = {}
    for position = first, math.min(first + 499, #group[3]) do
      if is_canvas then entries[#entries + 1] = due end
      entries[#entries + 1] = is_canvas and group[3][position] or header.run .. ' ' .. group[3][position]
    end
    call(is_canvas and 'ZADD' or 'RPUSH', list, unpack(entries))
  end
end
if header.held then
  for _, suffix in ipairs({'', ':due'}) do call('PEXPIRE', base .. suffix, header.retention_ms) end
elseif is_canvas then
  watch(run_of(header.run), now + is_lost_after())
end
return {'ok', wake_ups()}
