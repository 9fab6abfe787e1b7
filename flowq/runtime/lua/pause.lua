-- pause: run
-- Have nothing more of a run begin. What runs goes on, and is recorded; what is ready is set aside. Returns the run's
-- status, or false if there is no such run.
local run = run_of(header.run)
if not run then return false end
if is_open(run) and not run.paused then
  call('HSET', run.base, 'paused', 1)
  call('XADD', run.base .. ':events', '*', 'e', 'run paused 0 ')
  if call('PTTL', run.base) > 0 then call('PEXPIRE', run.base .. ':events', run.retention) end -- it is held
end
return run.status
