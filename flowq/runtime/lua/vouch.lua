-- vouch: holders
-- These processes live, says their parent: they need not say so themselves for a while. Returns their claims that are not
-- valid any more, "holder run key fence".
local lost = {}
for _, holder in ipairs(header.holders) do
  call('ZADD', key_of('holders'), 'XX', now + header.lease_ms, holder)
  for _, lease in ipairs(call('ZRANGE', key_of('leases', holder), 0, 499)) do
    local id, key, fence = string.match(lease, '^(%S+) (%S+) (%S+)$')
    local run = run_of(id)
    if not holds(is_live(run) and record_of(run, key), tonumber(fence)) then lost[#lost + 1] = holder .. ' ' .. lease end
  end
end
return lost
