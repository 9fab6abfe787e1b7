-- bury: holders tokens crashed
-- These processes are dead: their claims are taken away, and their drains ("queue token") have ended. `crashed`: it counts
-- as a crash of what they ran; else their claims are handed back. What is too much for one call is left to the sweep: a
-- score below 0 has it hand back, too. Returns messages.
although_full()
for _, entry in ipairs(header.tokens) do
  local queue, token = string.match(entry, '^(%S+) (%S+)$')
  call('ZREM', key_of('queue', queue, 'drains'), token)
  call('ZREM', key_of('queue', queue, 'idle'), token)
  touched[queue] = true
end
local left = TAKEN
for _, holder in ipairs(header.holders) do
  if left > 0 then left = left - take_all(holder, left, header.crashed and crash or hand_back) end
  if call('EXISTS', key_of('leases', holder)) == 1 then
    call('ZADD', key_of('holders'), header.crashed and 0 or -1, holder)
  end
end
flush_all()
return wake_ups()
