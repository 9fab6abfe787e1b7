-- told: run
-- What was parked until the run's end has been answered: send it no more.
call('HDEL', key_of('run', header.run), 'then')
call('ZREM', key_of('canvas'), header.run)
return true
