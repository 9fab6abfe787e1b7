-- drop: letters
-- Keep these dead letters ("run key") no longer. Returns how many there were.
local dropped = 0
for _, letter in ipairs(header.letters) do dropped = dropped + call('ZREM', key_of('dead'), letter) end
return dropped
