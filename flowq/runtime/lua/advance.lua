-- advance: run
-- Go on with consequences that were too many for the call that caused them. Returns {1 if some are left, wake-ups}.
local run = run_of(header.run)
if not is_open(run) then return {0, {}} end
run.todo, run.back = true, true
propagate(run)
local is_left = run.todo or (run.back and not run.paused)
if not is_left then call('ZREM', key_of('timers'), run.id .. ' todo 0') end
flush_all()
return {(is_left and is_open(run)) and 1 or 0, wake_ups()}
