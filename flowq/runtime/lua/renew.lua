-- renew: lease_ms leases tokens
-- Prolong leases ("run key fence") and drains ("queue token") that are still held. Returns the positions of leases that
-- are lost: taken away, settled, or of a run that was cancelled.
local lost, leases = {}, key_of('leases')
for position, lease in ipairs(header.leases) do
  local id = string.match(lease, '^(%S+) ')
  local run = run_of(id)
  if not is_open(run) or not call('ZSCORE', leases, lease) then
    call('ZREM', leases, lease)
    lost[#lost + 1] = position - 1
  else
    call('ZADD', leases, 'XX', now + header.lease_ms, lease)
  end
end
for _, entry in ipairs(header.tokens) do
  local queue, token = string.match(entry, '^(%S+) (%S+)$')
  call('ZADD', key_of('queue', queue, 'drains'), 'XX', now + header.lease_ms, token)
end
return lost
