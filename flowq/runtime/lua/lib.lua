-- What the scripts share; it stands before each of them. KEYS[1] is the prefix of all keys, ARGV[1] a JSON header.
--
-- A run is these keys (see keys.py); all get a TTL when it ends:
--   run:<id>            hash    status, plan, queue, remaining, bad_sinks, fence, counters, input, names, times
--   run:<id>:nodes      hash    key -> status|attempt|crashes|fence|started|ended|worker|more
--                               more: PENDING: upstreams not settled yet; a map that was opened:
--                               total,opened,settled,broken; else, when final: the reason if it did not complete
--   run:<id>:values     hash    key -> output; "i" .. key -> a map item's input
--   run:<id>:failures   hash    key -> the last failure
--   run:<id>:events     stream  what happened, for whoever watches
--   run:<id>:todo       list    consequences that were too many for one call: node status cursor
-- A node without a record is as it began: waiting for all its upstreams, or ready if it has none.
local prefix, header = KEYS[1], cjson.decode(ARGV[1])
local call, format = redis.call, string.format
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local BUDGET = 500           -- edges that one call follows: each takes 6 to 9 microseconds
local INLINE = 32            -- inline nodes that one call hands to its caller
local EVENTS = 10000         -- about so many events are kept per run
local budget = BUDGET

local FINAL = {completed = true, failed = true, cancelled = true, skipped = true, upstream_failed = true}
local CASCADE = {failed = 'upstream_failed', upstream_failed = 'upstream_failed', skipped = 'skipped',
                 cancelled = 'cancelled'}

local runs, rows, touched, inline = {}, {}, {}, {}
local takes_inline = false   -- the caller can run inline nodes itself
local fused = {}             -- those that it has run already, after their only upstream

local function key_of(...) return table.concat({prefix, ...}, ':') end

-- A run's head, read once per call; nil if there is no such run.
local function run_of(id)
  local run = runs[id]
  if run == nil then
    local base = key_of('run', id)
    local head = call('HMGET', base, 'status', 'plan', 'queue', 'retention_ms')
    if not head[1] then
      runs[id] = false
      return nil
    end
    run = {id = id, base = base, status = head[1], plan = head[2], queue = head[3], retention = tonumber(head[4]),
           nodes = base .. ':nodes', values = base .. ':values', counts = {}}
    runs[id] = run
  end
  return run or nil
end

local function is_open(run) return run and (run.status == 'pending' or run.status == 'running') end

-- A node's row of the plan: lane, queue, upstreams, max_attempts, max_crashes, is_map, reads_input, inputs, downstream;
-- nil if the plan has no such node.
local function row_of(run, node)
  local of_plan = rows[run.plan]
  if not of_plan then
    of_plan = {}
    rows[run.plan] = of_plan
  end
  local row = of_plan[node]
  if not row then
    local text = call('HGET', key_of('plan', run.plan), node)
    row = text and cjson.decode(text) or nil
    of_plan[node] = row
  end
  return row
end

local function split(key)
  local node, item = string.match(key, '^(%d+)%.?(%d*)$')
  return node, item ~= '' and item or nil
end

local function number_or(text, other) return tonumber(text) or other end

local function map_of(more)
  local total, opened, settled, broken = string.match(more, '^(-?%d+),(%d+),(%d+),(.*)$')
  return {total = number_or(total, -1), opened = number_or(opened, 0), settled = number_or(settled, 0),
          broken = broken ~= '' and broken or nil}
end

local function more_of(map) return table.concat({map.total, map.opened, map.settled, map.broken or ''}, ',') end

local function parse(text)
  local status, attempt, crashes, fence, started, ended, worker, more =
    string.match(text, '^([^|]*)|(%d*)|(%d*)|(%d*)|(%d*)|(%d*)|([^|]*)|(.*)$')
  return {status = status, attempt = tonumber(attempt), crashes = tonumber(crashes), fence = tonumber(fence),
          started = started, ended = ended, worker = worker, more = more}
end

-- What is known of a node or item; nil if the plan has no such node, or the map is not open so far.
local function record_of(run, key)
  local node, item = split(key)
  local text = call('HGET', run.nodes, key)
  local record = parse(text or 'ready|0|0|0||||')
  if not text then
    local row = row_of(run, node)
    if not row then return nil end
    if not item and row[3] > 0 then record.status, record.more = 'pending', row[3] end
  end
  if item then
    local map = record_of(run, node)
    if tonumber(item) >= map_of(map.more).opened then return nil end
    -- A map that fails before all its items are open takes along those that are; it writes nothing to them.
    if FINAL[map.status] and not FINAL[record.status] then record.status = 'cancelled' end
  end
  return record
end

local function write(run, key, record)
  call('HSET', run.nodes, key, table.concat({record.status, record.attempt, record.crashes, record.fence, record.started,
    record.ended, record.worker, record.more}, '|'))
end

local function count(run, name, by) run.counts[name] = (run.counts[name] or 0) + by end

local function announce(run, key, record)
  call('XADD', run.base .. ':events', 'MAXLEN', '~', EVENTS, '*', 'e',
    table.concat({key, record.status, record.attempt, record.worker}, ' '))
end

local function lease_of(run, key, fence) return run.id .. ' ' .. key .. ' ' .. fence end

-- Whether a claim is still valid. Fence 0 is no claim's: a map whose items are all open has given its own up.
local function holds(record, fence)
  return record and record.status == 'running' and record.fence == fence and fence > 0
end

-- READY: on its queue's list.
local function enqueue(run, key, record, row)
  record.status, record.fence = 'ready', 0
  write(run, key, record)
  local queue = row[2] ~= '' and row[2] or run.queue
  local lane = row[1] == 'thread' and 'thread' or 'process'
  call('RPUSH', key_of('queue', queue, lane), run.id .. ' ' .. key)
  touched[queue] = true
end

local function expire_run(run)
  for _, suffix in ipairs({'', ':nodes', ':values', ':failures', ':events'}) do
    call('PEXPIRE', run.base .. suffix, run.retention)
  end
  call('UNLINK', run.base .. ':todo')
  call('PEXPIRE', key_of('values', run.id), run.retention)
  local plan = key_of('plan', run.plan)
  -- Not before the last of its runs goes, which need not be the last one that ended.
  local kept = math.max(now + run.retention, number_or(call('HGET', plan, 'kept') or nil, 0))
  call('HSET', plan, 'kept', kept)
  if call('HINCRBY', plan, 'runs', -1) <= 0 then call('PEXPIREAT', plan, kept) end
end

local function finish(run, status)
  run.status = status
  call('HSET', run.base, 'status', status, 'ended', now)
  call('XADD', run.base .. ':events', '*', 'e', 'run ' .. status .. ' 0 ')
  expire_run(run)
  call('PUBLISH', key_of('finished'), run.id)
end

local settle_item

-- All that follows from one outcome comes before what follows from the next: so a node goes by what happened first.
local function later(run, ...)
  call(run.follows and 'LPUSH' or 'RPUSH', run.base .. ':todo', table.concat({...}, ' '))
  run.todo = true
end

-- Settle a node or an item. What follows downstream goes onto the todo list.
local function settle(run, key, record, status, reason)
  record.status, record.fence, record.ended = status, 0, now
  local map = map_of(record.more)
  if map.total < 0 then
    record.more = reason or ''
  elseif reason then -- the map failed before all its items were open: those that are left count no longer
    count(run, 'total', map.settled - map.total)
    map.broken = reason
    record.more = more_of(map)
  end
  write(run, key, record)
  announce(run, key, record)
  count(run, 'settled', 1)
  count(run, status, 1)
  local node, item = split(key)
  if item then return settle_item(run, node, status) end
  count(run, 'remaining', -1)
  if #row_of(run, node)[9] > 0 then
    later(run, node, status, 0)
  elseif status ~= 'completed' and status ~= 'skipped' then
    count(run, 'bad_sinks', 1)
  end
end

-- Count an item for its map; the last one settles the map, the first bad one what requires all of them.
function settle_item(run, node, status)
  local record = record_of(run, node)
  local map = map_of(record.more)
  map.settled = map.settled + 1
  if status ~= 'completed' then
    if not map.broken then later(run, node, status, 0, 'required') end
    if map.broken ~= 'failed' then map.broken = status end
  end
  record.more = more_of(map)
  if map.settled == map.total then
    settle(run, node, record, map.broken or 'completed')
  else
    write(run, node, record)
  end
end

-- All upstreams are settled: onto the list, or straight to the caller if the node is inline and the caller can take it.
local function ready(run, key, record)
  local row = row_of(run, key)
  if row[1] == 'inline' and takes_inline and (#inline < INLINE or fused[run.id .. ' ' .. key]) then
    record.status = 'ready'
    write(run, key, record)
    inline[#inline + 1] = {run, key}
  else
    enqueue(run, key, record, row)
  end
end

-- Follow one entry of the todo list along the downstream edges; gives the cursor where the budget ended, if it did.
local function follow(run, node, status, cursor, only_required)
  local downstream = row_of(run, node)[9]
  for position = cursor + 1, #downstream, 2 do
    if budget <= 0 then return position - 1 end
    budget = budget - 1
    local key, required = tostring(downstream[position]), downstream[position + 1] == 1
    local record = record_of(run, key)
    if not FINAL[record.status] then
      if required and status ~= 'completed' then
        settle(run, key, record, CASCADE[status], CASCADE[status])
      elseif not only_required then
        record.more = tonumber(record.more) - 1
        if record.more > 0 then
          write(run, key, record)
        else
          record.more = ''
          ready(run, key, record)
        end
      end
    end
  end
  return nil
end

-- Work off the run's consequences within the budget. What is left stays on the todo list, with a timer that has the
-- sweep go on with it should the caller die now.
local function propagate(run)
  local todo = run.base .. ':todo'
  while run.todo and budget > 0 do
    local entry = call('LPOP', todo)
    if not entry then
      run.todo = false
      break
    end
    local node, status, cursor, only = string.match(entry, '^(%d+) (%S+) (%d+) ?(%S*)$')
    run.follows = true
    local stopped = follow(run, node, status, tonumber(cursor), only == 'required')
    run.follows = false
    if stopped then
      call('LPUSH', todo, table.concat({node, status, stopped, only}, ' '))
    end
  end
  if run.todo and call('EXISTS', todo) == 0 then run.todo = false end
  if run.todo then
    call('ZADD', key_of('timers'), now, run.id .. ' todo 0')
  end
end

-- Write the counters back, and end the run if nothing remains.
local function flush(run)
  if not is_open(run) then return end
  local left
  for name, by in pairs(run.counts) do
    local value = call('HINCRBY', run.base, name, by)
    if name == 'remaining' then left = value end
  end
  run.counts = {}
  if left == 0 then
    local bad = call('HGET', run.base, 'bad_sinks')
    finish(run, (bad and tonumber(bad) > 0) and 'failed' or 'completed')
  end
end

local function flush_all()
  for _, run in pairs(runs) do
    if run then flush(run) end
  end
end

-- A drain is one worker slot at work on a queue. So many wake-ups are due as there are ready nodes and free slots; each
-- is noted as a drain that is about to start, so that nobody sends it again before it is taken for lost.
local function wake_ups()
  local wakes = {}
  for queue in pairs(touched) do
    local drains = key_of('queue', queue, 'drains')
    call('ZREMRANGEBYSCORE', drains, '-inf', now)
    local waiting = call('LLEN', key_of('queue', queue, 'process')) + call('LLEN', key_of('queue', queue, 'thread'))
    local slots = 0
    for _, of_worker in ipairs(call('HVALS', key_of('queue', queue, 'slots'))) do slots = slots + tonumber(of_worker) end
    local free = math.max(1, slots) - call('ZCARD', drains)
    for number = 1, waiting do
      local token = header.call .. '-' .. queue .. '-' .. number
      if not call('ZSCORE', drains, token) then -- else this call is repeated, and nobody has sent it
        if free <= 0 then break end
        free = free - 1
        call('ZADD', drains, now + header.wake_ms, token)
      end
      wakes[#wakes + 1] = {queue, token}
    end
    call('SADD', key_of('queues'), queue)
    call('PEXPIRE', key_of('queues'), 30 * 86400000)
  end
  return wakes
end

-- READY to RUNNING, under a new fence; nil if it is not ready.
local function begin(run, key)
  local record = is_open(run) and record_of(run, key)
  if not record or record.status ~= 'ready' then return nil end
  record.status, record.attempt, record.fence = 'running', record.attempt + 1, call('HINCRBY', run.base, 'fence', 1)
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
  call('ZADD', key_of('leases'), now + header.lease_ms, lease_of(run, key, record.fence))
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

-- A call whose reply was lost is repeated by the client: then give again what it claimed the first time.
local function claim_again(said, claims)
  for id, key, fence in string.gmatch(said, '(%S+) (%S+) (%S+);') do
    local run = run_of(id)
    local record = is_open(run) and record_of(run, key)
    if holds(record, tonumber(fence)) then claims[#claims + 1] = hand(run, key, record) end
  end
end

-- What the caller does next: what it was promised, its inline nodes, then what its queue has. If there is nothing and
-- nothing else runs in this drain, the drain ends in this same step, so that no wake-up is missed.
local function next_claims()
  if header.token == '' then return {} end
  -- One key a call, as a drain's threads call side by side; it need not outlive the leases, which nobody renews.
  local replies, claims = key_of('claims', header.call), {}
  local said = call('GET', replies)
  if said then
    claim_again(said, claims)
    touched[header.queue] = true
  else
    for _, entry in ipairs(inline) do claim(entry[1], entry[2], claims) end
    if #claims == 0 then take(header.queue, 'process', header.process, claims) end
    take(header.queue, 'thread', header.thread, claims)
    said = {}
    for _, made in ipairs(claims) do said[#said + 1] = made[1] .. ' ' .. made[2] .. ' ' .. made[5] .. ';' end
    if #said > 0 then call('SET', replies, table.concat(said), 'PX', header.lease_ms) end
  end
  local drains = key_of('queue', header.queue, 'drains')
  if #claims == 0 and header.busy == 0 then
    call('ZREM', drains, header.token)
    touched[header.queue] = true
  else
    call('ZADD', drains, now + header.lease_ms, header.token)
  end
  return claims
end
