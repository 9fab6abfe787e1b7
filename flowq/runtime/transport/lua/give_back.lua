-- Moves messages of a living consumer back to their list, each once however often this is called.
-- KEYS: what it has taken, the list
-- ARGV: LPUSH or RPUSH; pairs of a message and what it becomes. Gives how many were moved.
local moved = 0
for i = 2, #ARGV, 2 do
    if redis.call('LREM', KEYS[1], 1, ARGV[i]) == 1 then
        redis.call(ARGV[1], KEYS[2], ARGV[i + 1])
        moved = moved + 1
    end
end
return moved
