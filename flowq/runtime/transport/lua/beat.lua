-- Says that a consumer lives, and tells which ones do not.
-- KEYS: consumers (id -> when it was last heard of, ms), their lists (id -> JSON)
-- ARGV: id, its lists, ms after which a silent one is dead, how many dead ones to tell
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3], 'LIMIT', 0, ARGV[4])
local told = {}
for _, id in ipairs(dead) do
    told[#told + 1] = id
    told[#told + 1] = redis.call('HGET', KEYS[2], id)
end
return told
