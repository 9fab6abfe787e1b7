-- extend: run key fence offset total
-- Open items of a claimed map. ARGV: header, the items' inputs… from `offset` on; the map is done opening when all
-- `total` are there. Replay: items that are open already are left alone. Returns {1 if it counted, wake-ups}.
local run = run_of(header.run)
local record = is_live(run) and record_of(run, header.key)
local row = record and row_of(run, header.key)
if not row or row[6] == 0 or not holds(record, header.fence) then return {0, {}} end
if header.offset > map_of(record).opened then return {0, {}} end
if not record.map then
  record = turned(record, record.status, record.fence)
  record.map = {total = header.total, opened = 0, settled = 0}
  count(run, 'total', header.total)
end
local map = record.map
local queue = queue_of(run, row)
local list = key_of('queue', queue, row[1] == 'thread' and 'thread' or 'process')
local last = math.min(#args, 1 + map.total - header.offset)
for first = 2 + map.opened - header.offset, last, 500 do
  local values, entries = {}, {}
  for position = first, math.min(first + 499, last) do
    local key = header.key .. '.' .. (header.offset + position - 2)
    values[#values + 1] = 'i' .. key
    values[#values + 1] = args[position]
    entries[#entries + 1] = run.id .. ' ' .. key
    if run.paused then
      set_aside(run, key)
    elseif run.canvas then
      expect(run, key, 0)
      send(run, key, '')
    end
    map.opened = map.opened + 1
  end
  call('HSET', run.values, unpack(values))
  if not (run.canvas or run.paused) then
    call('RPUSH', list, unpack(entries))
    touched[queue] = true
  end
end
if map.opened < map.total then
  write(run, header.key, record)
else
  let_go(lease_of(run, header.key, record.fence))
  if record.attempt > 1 then call('HDEL', run.base .. ':failures', header.key) end
  record = turned(record, record.status, 0)
  if map.settled == map.total then
    settle(run, header.key, record, map.broken or 'completed')
    propagate(run)
  else
    write(run, header.key, record)
  end
end
flush_all()
return {1, wake_ups()}
