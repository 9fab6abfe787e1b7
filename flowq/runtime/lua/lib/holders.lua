-- A claim is held by a process. When a process is gone, so are its claims.
local TAKEN = 500  -- leases that one call takes away

local LETTERS = 10000 -- dead letters that are kept at most
local LETTERS_MS = 30 * 86400000 -- for which they are kept, besides their run's retention

-- A node that was given up is kept for a person to look at: longer than its run is, as whoever reads drops it then.
local function keep_letter(run, key)
  local dead = key_of('dead')
  call('ZADD', dead, now, run.id .. ' ' .. key)
  call('ZREMRANGEBYRANK', dead, 0, -LETTERS - 1)
  local kept = run.retention + LETTERS_MS
  if call('PTTL', dead) < kept then call('PEXPIRE', dead, kept) end
end

-- A process ended while it ran a node under the claim of the one before: so often, that is, and no attempt is recorded.
local function doubt(id, key)
  local run = run_of(id)
  if is_live(run) then call('HINCRBY', run.base, 'doubt:' .. key, 1) end
end

-- An attempt ended with its process; too many such ends are the node's own doing.
local function crash(run, key, record)
  local row = row_of(run, (split(key)))
  record = turned(record, record.status, record.fence)
  record.crashes = record.crashes + 1
  local deaths = record.crashes + number_or(call('HGET', run.base, 'doubt:' .. key) or nil, 0)
  if deaths < row[5] then return enqueue(run, key, record, row) end
  call('HSET', run.base .. ':failures', key, cjson.encode({kind = 'lost', type = 'flowq.WorkerLost',
    message = string.format('%d attempts died with their worker; the last one on %s', deaths, record.worker)}))
  keep_letter(run, key)
  settle(run, key, record, 'failed', 'failed')
  propagate(run)
end

-- The node was not begun, or is to be begun elsewhere: it is ready as if this attempt had never been.
local function hand_back(run, key, record)
  record = turned(record, 'ready', 0)
  record.attempt = record.attempt - 1
  enqueue(run, key, record, row_of(run, (split(key))))
end

-- Take a claim away from whoever has it, if it is still valid.
local function take_away(lease, ends)
  local id, key, fence = string.match(lease, '^(%S+) (%S+) (%S+)$')
  local run = run_of(id)
  local record = is_live(run) and record_of(run, key)
  if holds(record, tonumber(fence)) then ends(run, key, record) end
end

-- Take all claims of a process away, up to `most`; gives how many there were.
local function take_all(holder, most, ends)
  local key = key_of('leases', holder)
  local leases = call('ZRANGE', key, 0, most - 1)
  for _, lease in ipairs(leases) do
    call('ZREM', key, lease)
    take_away(lease, ends)
  end
  if #leases < most then call('ZREM', key_of('holders'), holder) end
  return #leases
end

return TAKEN, keep_letter, doubt, crash, hand_back, take_away, take_all
