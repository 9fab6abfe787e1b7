-- Moves messages of a consumer back to their list, each once however often this is called.
-- KEYS: consumers, what it has taken, the list
-- ARGV: LPUSH or RPUSH; the consumer if it must be dead, else ''; ms after which a silent one is dead;
--       pairs of a message and what it becomes. Gives how many were moved, or -1 if the consumer lives.
if ARGV[2] ~= '' then
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local heard = redis.call('ZSCORE', KEYS[1], ARGV[2])
    if heard and tonumber(heard) > now - ARGV[3] then return -1 end
end
local moved = 0
for i = 4, #ARGV, 2 do
    if redis.call('LREM', KEYS[2], 1, ARGV[i]) == 1 then
        redis.call(ARGV[1], KEYS[3], ARGV[i + 1])
        moved = moved + 1
    end
end
return moved
