-- resume: run
-- Go on with a paused run. Returns {its status, messages, 1 if `advance` is to go on}, or false if there is no such run.
local run = run_of(header.run)
if not run then return false end
if is_open(run) then
  if run.paused then
    call('HDEL', run.base, 'paused')
    call('XADD', run.base .. ':events', '*', 'e', 'run resumed 0 ')
    if call('PTTL', run.base) > 0 then call('PEXPIRE', run.base .. ':events', run.retention) end -- it is held
  end
  run.paused, run.back = false, true
  propagate(run)
end
flush_all()
return {run.status, wake_ups(), run.back and 1 or 0}
