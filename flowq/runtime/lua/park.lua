-- park: run message replaces
-- Have a message sent when the run ends, unless one is parked already (and this one does not replace it). Returns the
-- run's status if the caller is to answer now: it has ended, and nobody is asked to tell; 'parked' if somebody is or has
-- been; false if there is no such run.
local run = run_of(header.run)
if not run then return false end
local before = call('HGET', run.base, 'then')
if before and not (header.replaces and is_open(run)) then return 'parked' end
if not is_open(run) then return run.status end
call('HSET', run.base, 'then', header.message)
return 'parked'
