-- park: run message
-- Have a message sent when the run ends. Returns the run's status; if it has ended already, nothing is parked; false if
-- there is no such run.
local run = run_of(header.run)
if not run then return false end
if is_open(run) then call('HSET', run.base, 'then', header.message) end
return run.status
