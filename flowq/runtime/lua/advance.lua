-- advance: run
-- Go on with consequences that were too many for the call that caused them. Returns {1 if some are left, wake-ups}.
local run = run_of(header.run)
if not is_open(run) then return {0, {}} end
run.todo = true
propagate(run)
if not run.todo then call('ZREM', key_of('timers'), run.id .. ' todo 0') end
flush_all()
return {(run.todo and is_open(run)) and 1 or 0, wake_ups()}
