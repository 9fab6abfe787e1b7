-- register: call wake_ms lease_ms worker queues slots
-- Say that a worker is there, with so many slots for each of its queues (0: it leaves). Returns wake-ups for what waits.
for _, queue in ipairs(header.queues) do
  local slots = key_of('queue', queue, 'slots')
  if header.slots > 0 then
    call('HSET', slots, header.worker, header.slots)
    call('PEXPIRE', slots, 86400000)
    touched[queue] = true
  else
    call('HDEL', slots, header.worker)
  end
end
if header.slots > 0 then
  call('ZADD', key_of('workers'), now + header.lease_ms, header.worker)
  call('PEXPIRE', key_of('workers'), 86400000)
else
  call('ZREM', key_of('workers'), header.worker)
end
return wake_ups()
