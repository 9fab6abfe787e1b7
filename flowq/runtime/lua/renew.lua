-- renew: leases tokens
-- A process says that it lives, which claims it holds ("run key fence") and which drains ("queue token"). A claim of its
-- own that it does not name, though it was made a lease ago, is one whose reply it never got: it is handed back. (Not at
-- the first time, which leaves it with a score below 0: a call that was held up does not name what was claimed since.)
-- Returns {positions of leases that are lost, messages}: taken away, settled, or of a run that was cancelled or a map that
-- failed.
local lost, held, own = {}, {}, key_of('leases', header.holder)
refresh()
for position, lease in ipairs(header.leases) do
  held[lease] = true
  local id, key, fence = string.match(lease, '^(%S+) (%S+) (%S+)$')
  local run = run_of(id)
  if not holds(is_live(run) and record_of(run, key), tonumber(fence)) then
    call('ZREM', own, lease)
    lost[#lost + 1] = position - 1
  end
end
local most = TAKEN + #header.leases
local old = call('ZRANGEBYSCORE', own, '-inf', now - header.lease_ms, 'WITHSCORES', 'LIMIT', 0, most)
for position = 1, #old, 2 do
  local lease, made = old[position], tonumber(old[position + 1])
  if held[lease] then
    if made < 0 then call('ZADD', own, now, lease) end
  elseif made >= 0 then
    call('ZADD', own, -1, lease)
  else
    call('ZREM', own, lease)
    take_away(lease, hand_back)
  end
end
for _, entry in ipairs(header.tokens) do
  local queue, token = string.match(entry, '^(%S+) (%S+)$')
  call('ZADD', key_of('queue', queue, 'drains'), 'XX', now + header.lease_ms, token)
end
flush_all()
return {lost, wake_ups()}
