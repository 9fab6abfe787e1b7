-- told: run
-- What was parked until the run's end has been answered: send it no more.
local base = key_of('run', header.run)
if call('EXISTS', base) == 1 then call('HSET', base, 'then', '') end
call('ZREM', key_of('canvas'), header.run)
return true
