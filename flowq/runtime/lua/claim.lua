-- claim: worker token queue process thread busy batch
-- Take ready nodes of a queue for a drain: up to `process` and `thread` of each lane. `busy`: attempts that the drain is
-- running already; without any, finding nothing ends the drain. `batch`: they run one after the
-- other. Returns {claims, wake-ups}.
local claims = next_claims()
return {claims, wake_ups()}
