-- cancel: run
-- End a run as CANCELLED, whatever its size: nodes that are not settled count as cancelled from now on, claims find the
-- run ended, and running attempts lose their leases at the next renewal. Returns {the status it has now, messages}, or
-- false.
local run = run_of(header.run)
if not run then return false end
if is_open(run) then
  start_held(run) -- its plan is told of its end, and so of its beginning
  finish(run, 'cancelled')
end
return {run.status, wake_ups()}
