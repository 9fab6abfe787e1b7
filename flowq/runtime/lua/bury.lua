-- bury: holders tokens crashed running
-- These processes are dead: their claims are taken away, and their drains ("queue token") have ended. `crashed`: it counts
-- as a crash of what they ran; else their claims are handed back. `running` ("run key fence" and the key of a node that
-- was fused to it): the main thread was at this, so it is no crash of the others, but for those of other threads. What is
-- too much for one call is left to the sweep: a score below 0 has it hand back, too. Returns messages.
for _, entry in ipairs(header.tokens) do
  local queue, token = string.match(entry, '^(%S+) (%S+)$')
  call('ZREM', key_of('queue', queue, 'drains'), token)
  call('ZREM', key_of('queue', queue, 'idle'), token)
  touched[queue] = true
end
local running, doubted = string.match(header.running, '^(%S+ %S+ %S+) ?(%S*)$')
if doubted and doubted ~= '' then doubt(string.match(running, '^%S+'), doubted) end

local function has_ended(run, key, record)
  local is_to_blame = not running or running == lease_of(run, key, record.fence) or row_of(run, (split(key)))[1] == 'thread'
  local ends = (header.crashed and is_to_blame) and crash or hand_back
  ends(run, key, record)
end

local left = TAKEN
for _, holder in ipairs(header.holders) do
  if left > 0 then left = left - take_all(holder, left, has_ended) end
  if call('EXISTS', key_of('leases', holder)) == 1 then
    call('ZADD', key_of('holders'), header.crashed and 0 or -1, holder)
  end
end
flush_all()
return wake_ups()
