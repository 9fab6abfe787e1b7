-- renew: leases tokens
-- A process says that it lives, which claims it holds ("run key fence") and which drains ("queue token"). A claim of its
-- own that it does not name, though it was made a lease ago, is one whose reply it never got: it is taken away. Returns
-- {positions of leases that are lost, messages}: taken away, settled, or of a run that was cancelled or a map that failed.
although_full()
local lost, held, own = {}, {}, key_of('leases', header.holder)
if #header.leases + #header.tokens > 0 then refresh() end
for position, lease in ipairs(header.leases) do
  held[lease] = true
  local id, key, fence = string.match(lease, '^(%S+) (%S+) (%S+)$')
  local run = run_of(id)
  if not holds(is_live(run) and record_of(run, key), tonumber(fence)) then
    call('ZREM', own, lease)
    lost[#lost + 1] = position - 1
  end
end
for _, lease in ipairs(call('ZRANGEBYSCORE', own, '-inf', now - header.lease_ms, 'LIMIT', 0, TAKEN + #header.leases)) do
  if not held[lease] then
    call('ZREM', own, lease)
    take_away(lease, crash)
  end
end
for _, entry in ipairs(header.tokens) do
  local queue, token = string.match(entry, '^(%S+) (%S+)$')
  call('ZADD', key_of('queue', queue, 'drains'), 'XX', now + header.lease_ms, token)
end
flush_all()
return {lost, wake_ups()}
