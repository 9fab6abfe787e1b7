-- register: worker queues slots
-- Say that a worker is there, with so many slots for each of its queues (0: it leaves). Returns wake-ups for what waits.
for _, queue in ipairs(header.queues) do
  local slots = key_of('queue', queue, 'slots')
  if header.slots > 0 then
    call('HSET', slots, header.worker, header.slots)
    call('PEXPIRE', slots, 86400000)
  else
    call('HDEL', slots, header.worker)
  end
  touched[queue] = true
end
-- Another epoch: the server has come back without its data.
call('SET', key_of('epoch'), header.call .. ' ' .. clock[1] .. '.' .. clock[2], 'NX') -- a repeated call may meet another
call('PEXPIRE', key_of('epoch'), 30 * 86400000)
-- From now on it can be told whether nobody has swept for long.
call('SET', key_of('swept'), now .. ' 0', 'NX', 'PX', 30 * 86400000)
if header.slots > 0 then
  call('ZADD', key_of('workers'), now + header.lease_ms, header.worker)
  call('PEXPIRE', key_of('workers'), 86400000)
else
  call('ZREM', key_of('workers'), header.worker)
end
return wake_ups()
