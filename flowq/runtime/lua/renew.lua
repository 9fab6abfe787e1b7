-- renew: lease_ms leases tokens
-- Prolong leases ("run key fence") and drains ("queue token") that are still held. Returns the positions of leases that
-- are lost: taken away, settled, or of a run that was cancelled or a map that failed.
local lost, leases = {}, key_of('leases')
for position, lease in ipairs(header.leases) do
  local id, key, fence = string.match(lease, '^(%S+) (%S+) (%S+)$')
  local run = run_of(id)
  if holds(is_open(run) and record_of(run, key), tonumber(fence)) then
    call('ZADD', leases, now + header.lease_ms, lease)
  else
    call('ZREM', leases, lease)
    lost[#lost + 1] = position - 1
  end
end
for _, entry in ipairs(header.tokens) do
  local queue, token = string.match(entry, '^(%S+) (%S+)$')
  call('ZADD', key_of('queue', queue, 'drains'), 'XX', now + header.lease_ms, token)
end
return lost
