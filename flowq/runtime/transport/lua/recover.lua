-- Moves what a consumer had taken when it died back to its list, the oldest first there, each message once however
-- often this is called. A message tells by leading tabs (JSON allows them) how many of its consumers have died so;
-- one that has seen too many of those deaths goes to quarantine instead. Nothing of it is decoded here, nor sent to
-- anybody: it may be what they died of.
-- KEYS: consumers, what it has taken, the list, the quarantine
-- ARGV: the consumer if it must be dead, else ''; ms after which a silent one is dead; deaths that are too many; ms
--       after which a death is forgotten unless another one follows; messages, and bytes, after which this call ends;
--       then of the quarantine: the reason, bytes kept of a message, how many of them, for how many ms
-- Gives how many were moved, then the beginning of each that was set aside; -1 if the consumer lives.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] ~= '' then
    local heard = redis.call('ZSCORE', KEYS[1], ARGV[1])
    if heard and tonumber(heard) > now - ARGV[2] then return {-1} end
end
local told = {0}
local bytes = 0
for _ = 1, tonumber(ARGV[5]) do
    local message = bytes < tonumber(ARGV[6]) and redis.call('LPOP', KEYS[2])
    if not message then break end
    local plain = string.gsub(message, '^\t+', '')
    local deaths = #message - #plain + 1
    local lately = KEYS[1] .. ':died:' .. redis.sha1hex(plain)
    if redis.call('EXISTS', lately) == 0 then deaths = 1 end
    if deaths < tonumber(ARGV[3]) then
        redis.call('RPUSH', KEYS[3], string.rep('\t', deaths) .. plain)
        redis.call('SET', lately, 1, 'PX', ARGV[4])
    else
        local about = {reason = ARGV[7], at = now / 1000, size = #plain, source = KEYS[3]}
        redis.call('LPUSH', KEYS[4], cjson.encode(about) .. '\n' .. string.sub(plain, 1, ARGV[8]))
        redis.call('LTRIM', KEYS[4], 0, ARGV[9] - 1)
        redis.call('PEXPIRE', KEYS[4], ARGV[10])
        told[#told + 1] = string.sub(plain, 1, 65536)
    end
    told[1] = told[1] + 1
    bytes = bytes + #message
end
return told
