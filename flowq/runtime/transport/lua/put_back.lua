-- Moves an item from quarantine back to a list, behind all others there, once however often this is called.
-- KEYS: the quarantine, the list
-- ARGV: the item, the message in it
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[2])
return 1
