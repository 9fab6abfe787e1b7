-- Forgets a consumer that holds nothing. One that has died is looked at once more, long after: a last command of its
-- may still have been on the way.
-- KEYS: consumers, their lists, then what it may have taken
-- ARGV: id, ms after which a silent one is dead, ms to the second look; 0: it has left of its own accord
for i = 3, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 1 then return 0 end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local heard = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)
if tonumber(ARGV[3]) > 0 then
    if heard > now - ARGV[2] then return 0 end
    local mark = KEYS[2] .. ':buried:' .. ARGV[1]
    if redis.call('EXISTS', mark) == 0 then
        redis.call('SET', mark, 1, 'PX', 2 * ARGV[3])
        redis.call('ZADD', KEYS[1], now - ARGV[2] + ARGV[3], ARGV[1])
        return 0
    end
    redis.call('DEL', mark)
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
