-- Moves a message that nobody can use out of the way.
-- KEYS: what the consumer has taken, the quarantine
-- ARGV: the message, what is kept of it, how many are kept, for how many ms
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[2])
redis.call('LTRIM', KEYS[2], 0, ARGV[3] - 1)
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
