-- Moves the oldest message of the first list that has one.
-- KEYS: pairs of a list and where its messages go. Gives the pair's number and the message.
for i = 1, #KEYS, 2 do
    local message = redis.call('LMOVE', KEYS[i], KEYS[i + 1], 'RIGHT', 'LEFT')
    if message then return {(i - 1) / 2, message} end
end
return false
