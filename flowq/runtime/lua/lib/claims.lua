-- A number that was never given out before, even if the server has come back without its last seconds: not less than
-- the microseconds since the run was submitted.
local function next_fence(run)
  run.fence = math.max(run.fence + 1, clock[1] * 1000000 + clock[2] - run.submitted * 1000)
  call('HSET', run.base, 'fence', run.fence)
  return run.fence
end

-- READY to RUNNING, under a new fence; nil if it is not ready.
local function begin(run, key)
  local record = is_live(run) and record_of(run, key)
  if not record or record.status ~= 'ready' then return nil end
  if run.canvas then call('ZREM', run.base .. ':due', key) end
  record.status, record.attempt, record.fence = 'running', record.attempt + 1, next_fence(run)
  record.started, record.worker = now, header.worker
  write(run, key, record)
  announce(run, key, record)
  if run.status == 'pending' then
    run.status = 'running'
    call('HSET', run.base, 'status', 'running', 'started', now)
  end
  return record
end

-- Give a begun node to the caller: its lease, its fence, and the inputs if they are few.
local function hand(run, key, record)
  refresh()
  call('ZADD', key_of('leases', header.holder), now, lease_of(run, key, record.fence))
  local node, item = split(key)
  local row = row_of(run, node)
  local input = row[7] == 1 and call('HGET', run.base, 'input') or false
  local value = item and call('HGET', run.values, 'i' .. key) or false
  local records, values = false, false
  if row[8] and #row[8] > 0 then
    records, values = call('HMGET', run.nodes, unpack(row[8])), call('HMGET', run.values, unpack(row[8]))
  end
  return {run.id, key, record.attempt, record.crashes, record.fence, run.plan, input, value,
          map_of(record.more).opened, records, values}
end

local function claim(run, key, claims)
  if is_live(run) and run.paused then
    local record = record_of(run, key)
    if record and record.status == 'ready' then set_aside(run, key) end
    return
  end
  local record = begin(run, key)
  if record then claims[#claims + 1] = hand(run, key, record) end
end

-- Take up to `most` nodes from a queue's lane; entries of ended runs and of nodes that are no longer ready are dropped.
local function take(queue, lane, most, claims)
  local list, before = key_of('queue', queue, lane), #claims
  for _ = 1, BUDGET do -- a cancelled run may have left more; then this drain ends, and another one goes on
    local entry = #claims - before < most and call('LPOP', list)
    if not entry then return end
    local id, key = string.match(entry, '^(%S+) (%S+)$')
    claim(run_of(id), key, claims)
  end
end

-- What the caller does next: what it was promised, its inline nodes, then what its queue has. If there is nothing and
-- nothing else runs in this drain, the drain ends in this same step, so that no wake-up is missed.
local function next_claims()
  local is_drain = header.token ~= ''
  if not is_drain and #inline == 0 and not takes_inline then return {} end
  is_claiming = true
  local claims = {}
  for _, entry in ipairs(inline) do claim(entry[1], entry[2], claims) end
  if is_drain and #claims == 0 then take(header.queue, 'process', header.process, claims) end
  if is_drain then take(header.queue, 'thread', header.thread, claims) end
  if not is_drain then return claims end
  local drains = key_of('queue', header.queue, 'drains')
  if #claims == 0 and header.busy == 0 then
    call('ZREM', drains, header.token)
    touched[header.queue] = true
  else
    call('ZADD', drains, now + header.lease_ms, header.token)
  end
  return claims
end
