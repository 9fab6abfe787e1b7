-- sweep: worker every_ms
-- Put right what nobody will report: processes that are gone, due timers, dead workers, lost wake-ups. One worker at a time does
-- it for the fleet (every_ms 0: now, whoever asks). Returns {1 if it swept, wake-ups, ms until the next timer or -1}.
if header.every_ms > 0 and not call('SET', key_of('sweep'), header.worker, 'NX', 'PX', header.every_ms) then
  return {0, {}, -1}
end
local BATCH = 500  -- of each kind per call; if something is left, whoever comes next goes on

-- Nobody has swept for so long that who lives may not have been able to say so: the server or the fleet was away. Then
-- it is given time for it. (Not if sweeps are just rare: nobody would ever be dead.)
local holders, swept = key_of('holders'), key_of('swept')
local last, every = string.match(call('GET', swept) or '', '^(%d+) (%d+)$')
every = header.every_ms > 0 and header.every_ms or number_or(every, 0)
call('SET', swept, now .. ' ' .. every, 'PX', 30 * 86400000)
if call('EXISTS', key_of('open')) == 0 then call('PEXPIRE', holders, 86400000) end
if last and now - last > math.max(header.lease_ms - header.grace_ms, 3 * every) then
  for _, holder in ipairs(call('ZRANGEBYSCORE', holders, 1, now + header.grace_ms)) do
    call('ZADD', holders, now + header.grace_ms, holder)
  end
end

local left = BATCH
local gone = call('ZRANGEBYSCORE', holders, '-inf', now, 'WITHSCORES', 'LIMIT', 0, BATCH)
for position = 1, #gone, 2 do
  if left > 0 then left = left - take_all(gone[position], left, tonumber(gone[position + 1]) < 0 and hand_back or crash) end
end

local timers = key_of('timers')
local next_timers = call('ZRANGE', timers, 0, BATCH - 1, 'WITHSCORES')
for position = 1, #next_timers, 2 do
  local timer, due = next_timers[position], tonumber(next_timers[position + 1]) <= now
  local id, key, attempt = string.match(timer, '^(%S+) (%S+) (%S+)$')
  local run = run_of(id)
  if due or not is_open(run) then call('ZREM', timers, timer) end -- an ended run may have left long waits behind
  if due and is_open(run) then
    if key == 'todo' then
      run.todo, run.back = true, true
      propagate(run)
    elseif key == 'deadline' then
      start_held(run) -- as in cancel
      call('HSET', run.base, 'reason', 'deadline')
      finish(run, 'failed')
    else
      local record = is_live(run) and record_of(run, key)
      local is_retry = record and record.status == 'pending' and record.attempt == tonumber(attempt) and record.attempt > 0
      if is_retry or (attempt == 'again' and record and record.status == 'ready') then
        enqueue(run, key, record, row_of(run, (split(key))))
      end
    end
  end
end

local canvas, looked = key_of('canvas'), 0
for _, id in ipairs(call('ZRANGEBYSCORE', canvas, '-inf', now, 'LIMIT', 0, BATCH)) do
  local run, next_due = run_of(id), nil
  if is_open(run) then
    local overdue = call('ZRANGEBYSCORE', run.base .. ':due', '-inf', now, 'WITHSCORES', 'LIMIT', 0, BATCH - looked)
    for position = 1, #overdue, 2 do
      looked = looked + 1
      local key, due = overdue[position], tonumber(overdue[position + 1])
      local record = record_of(run, key)
      if not record or (record.status ~= 'ready' and not (record.status == 'pending' and record.attempt > 0)) then
        call('ZREM', run.base .. ':due', key)
      elseif run.paused then
        set_aside(run, key)
      elseif is_lost(run, key, due) then
        local times = call('HINCRBY', run.base, 'lost:' .. key, 1)
        call('HINCRBY', run.base, 'lost', 1)
        enqueue(run, key, record, row_of(run, (split(key))))
        -- It may be the queue that is long: each time, the message gets twice as long.
        call('ZADD', run.base .. ':due', now + is_lost_after() * 2 ^ math.min(times, 6), key)
      else
        next_due = now + is_lost_after() -- nor are those that were due later
        break
      end
    end
    next_due = next_due or call('ZRANGE', run.base .. ':due', 0, 0, 'WITHSCORES')[2]
  elseif run then
    local parked = call('HGET', run.base, 'then')
    if parked and parked ~= '' then
      send(run, 'then', parked)
      next_due = now + header.wake_ms * 5
    end
  end
  if next_due and next_due ~= 'inf' then
    call('ZADD', canvas, next_due, id)
  else
    call('ZREM', canvas, id)
  end
  if looked >= BATCH then break end
end
flush_all()

for _, worker in ipairs(call('ZRANGEBYSCORE', key_of('workers'), '-inf', now)) do
  call('ZREM', key_of('workers'), worker)
  for _, queue in ipairs(call('SMEMBERS', key_of('queues'))) do call('HDEL', key_of('queue', queue, 'slots'), worker) end
end
for _, queue in ipairs(call('SMEMBERS', key_of('queues'))) do touched[queue] = true end

local due = call('ZRANGE', timers, 0, 0, 'WITHSCORES')[2]
local wait = due and math.max(0, tonumber(due) - now) or -1
if call('ZCOUNT', holders, '-inf', now) > 0 then wait = 0 end
if wait == 0 then call('DEL', key_of('sweep')) end
return {1, wake_ups(), wait}
