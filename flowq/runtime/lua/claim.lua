-- claim: worker token queue process thread busy batch listens_ms goes_on rung
-- Take ready nodes of a queue for a drain: up to `process` and `thread` of each lane. `busy`: attempts that the drain is
-- running already; without any, finding nothing ends the drain, or has it listen for `listens_ms`. `batch`: they run one
-- after the other. `goes_on`: others run before them, so that none of them may be one that must be alone. Returns {claims,
-- wake-ups}. `rung`: made as the drain's bell rang; if it rang twice, nothing is taken.
if header.rung and call('LPOP', key_of('bell', header.token)) then return {claims, {}} end
call('ZREM', key_of('queue', header.queue, 'idle'), header.token)
next_claims()
return {claims, wake_ups()}
