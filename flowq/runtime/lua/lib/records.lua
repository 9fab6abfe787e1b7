-- What the scripts share; it stands before each of them. KEYS[1] is the prefix of all keys, ARGV[1] a JSON header.
--
-- A run is these keys (see keys.py); all get a TTL when it ends:
--   run:<id>            hash    status, plan, queue, canvas, held, paused, reopening (a retry's records are not all
--                               in place), remaining, bad_sinks, fence, counters, input, names, times, reason (of an end
--                               that no node brought about), asked (what an idempotent submit is)
--   run:<id>:nodes      hash    key -> status|attempt|crashes|fence|started|ended|worker|more
--                               more: PENDING: upstreams not settled yet, and a mark (see delivery); a map that was
--                               opened: total,opened,settled,broken; when final: the reason if it did not complete
--   run:<id>:values     hash    key -> output; "i" .. key -> a map item's input
--   run:<id>:failures   hash    key -> the last failure
--   run:<id>:events     stream  what happened, for whoever watches
--   run:<id>:todo       list    consequences that were too many for one call: node status cursor (and see follow_up)
--   run:<id>:aside      zset    ready nodes of a paused run, by when they became so
--   run:<id>:due        zset    dispatched as a canvas: ready nodes by when their messages are taken for lost
-- A node without a record is as it began: waiting for all its upstreams, or ready if it has none.
local prefix, header = KEYS[1], cjson.decode(ARGV[1])
local call, format = redis.call, string.format
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Lua takes longer to write a number than for most else: each is written once.
local written = {}
local function digits(number)
  local text = written[number]
  if not text then
    text = format('%d', number)
    written[number] = text
  end
  return text
end
local now_text = digits(now)

local BUDGET = 500           -- edges that one call follows: each takes 6 to 9 microseconds
local INLINE = 32            -- inline nodes that one call hands to its caller
local budget = BUDGET

local FINAL = {completed = true, failed = true, cancelled = true, skipped = true, upstream_failed = true}
local OPEN = {pending = true, running = true}
local CASCADE = {failed = 'upstream_failed', upstream_failed = 'upstream_failed', skipped = 'skipped',
                 cancelled = 'cancelled'}

local runs, rows, touched, inline = {}, {}, {}, {}
local decoded, parsed = {}, {} -- texts that many nodes have in common: rows of a plan, records
local takes_inline = false   -- the caller can run inline nodes itself
local fused = {}             -- those that it has run already, after their only upstream
local is_claiming = false    -- the reply begins with claims

local function key_of(...) return table.concat({prefix, ...}, ':') end

local function number_or(text, other) return tonumber(text) or other end

-- What a call knows of a run; `head`: what run_of reads of it.
local function known_run(id, base, head)
  local run = {id = id, base = base, status = head[1], plan = head[2], queue = head[3], retention = tonumber(head[4]),
               canvas = head[5], held = head[6], paused = head[7], fence = number_or(head[8] or nil, 0),
               submitted = head[9], reopening = head[10], nodes = base .. ':nodes', values = base .. ':values',
               records = {}, texts = {}, given = {}, counts = {}, head = {}, changed = {}, outputs = {}, told = {}}
  runs[id] = run
  return run
end

-- A run's head, read once per call; nil if there is no such run.
local function run_of(id)
  local run = runs[id]
  if run == nil then
    local base = key_of('run', id)
    local head = call('HMGET', base, 'status', 'plan', 'queue', 'retention_ms', 'canvas', 'held', 'paused', 'fence',
      'submitted', 'reopening')
    run = head[1] and known_run(id, base, head) or false
    runs[id] = run
  end
  return run or nil
end

local function is_open(run) return run and OPEN[run.status] end

-- Whether anything of a run may begin or be recorded: not while a retry puts its records in place.
local function is_live(run) return run and OPEN[run.status] and not run.reopening end

local function decode(text)
  local row = decoded[text]
  if not row then
    row = cjson.decode(text)
    decoded[text] = row
  end
  return row
end

-- A node's row of the plan (see rows.py): lane, queue, upstreams, max_attempts, max_crashes, is_map, reads_input, inputs,
-- downstream, reads_endings, and if the downstreams are many, how many numbers of them stand here and how many there are;
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
    row = text and decode(text) or nil
    of_plan[node] = row
  end
  return row
end

local node_of, item_of = {}, {}
local function split(key)
  if not node_of[key] then
    local node, item = string.match(key, '^(%d+)%.?(%d*)$')
    node_of[key], item_of[key] = node, item ~= '' and item or nil
  end
  return node_of[key], item_of[key]
end

-- A map's own part of its record; what is changed in it is written with the record.
local function map_of(record)
  if not record.map then
    local total, opened, settled, broken = string.match(record.more, '^(-?%d+),(%d+),(%d+),(.*)$')
    record.map = {total = number_or(total, -1), opened = number_or(opened, 0), settled = number_or(settled, 0),
                  broken = broken ~= '' and broken or nil}
  end
  return record.map
end

local function parse(text)
  local same = parsed[text]
  if not same then
    local status, attempt, crashes, fence, started, ended, worker, more =
      string.match(text, '^([^|]*)|(%d*)|(%d*)|(%d*)|(%d*)|(%d*)|([^|]*)|(.*)$')
    same = {status = status, attempt = tonumber(attempt), crashes = tonumber(crashes), fence = tonumber(fence),
            started = started, ended = ended, worker = worker, more = more}
    parsed[text] = same
  end
  return {status = same.status, attempt = same.attempt, crashes = same.crashes, fence = same.fence,
          started = same.started, ended = same.ended, worker = same.worker, more = same.more}
end

-- The record of a node or item as it stands now, with what this call has changed; nil if the plan has no such node.
local function stored_record(run, key, node, item)
  local record = run.records[key]
  if record then return record end
  local text = run.texts[key]
  if text == nil then text = call('HGET', run.nodes, key) end
  if text then
    record = parse(text)
  else
    local row = row_of(run, node)
    if not row then return nil end
    local waits = not item and row[3] > 0
    record = {status = waits and 'pending' or 'ready', attempt = 0, crashes = 0, fence = 0, started = '', ended = '',
              worker = '', more = waits and row[3] or ''}
  end
  run.records[key] = record
  return record
end

-- What is known of a node or item; nil if the plan has no such node, or the map is not open so far.
local function record_of(run, key)
  local node, item = split(key)
  if not node then return nil end
  if not item then return stored_record(run, key, node) end
  local map = stored_record(run, node, node)
  if not map or tonumber(item) >= map_of(map).opened then return nil end
  local record = stored_record(run, key, node, item)
  -- A map that fails before all its items are open takes along those that are; it writes nothing to them.
  if FINAL[map.status] and not FINAL[record.status] then
    return {status = 'cancelled', attempt = record.attempt, crashes = record.crashes, fence = record.fence,
            started = record.started, ended = record.ended, worker = record.worker, more = record.more}
  end
  return record
end

-- Read what several nodes need in one go: so each costs far less.
local function read_ahead(run, some)
  local of_plan, asked = rows[run.plan] or {}, {}
  rows[run.plan] = of_plan
  local keys, nodes, items = {}, {}, {}
  for position = 1, #some do
    local key = some[position]
    local node, item = split(key)
    if node then keys[#keys + 1] = key end
    if node and not of_plan[node] and not asked[node] then
      nodes[#nodes + 1], asked[node] = node, true
    end
    if item then items[#items + 1] = 'i' .. key end
  end
  if #keys == 0 then return end
  local texts = call('HMGET', run.nodes, unpack(keys))
  for position = 1, #keys do run.texts[keys[position]] = texts[position] end
  local known = #nodes > 0 and call('HMGET', key_of('plan', run.plan), unpack(nodes)) or nodes
  for position = 1, #nodes do
    if known[position] then of_plan[nodes[position]] = decode(known[position]) end
  end
  if #items == 0 then return end
  for position, value in ipairs(call('HMGET', run.values, unpack(items))) do run.given[items[position]] = value end
end

local function lease_of(run, key, fence) return run.id .. ' ' .. key .. ' ' .. digits(fence) end

-- Add to `wanted` the nodes that edges lead to from a place on, if they are not read yet: as many as one call follows.
local function want(run, edges, first, wanted, seen)
  for place = first, math.min(#edges, first + 2 * (BUDGET - #wanted) - 1), 2 do
    local key = digits(edges[place])
    if not seen[key] and run.texts[key] == nil then wanted[#wanted + 1], seen[key] = key, true end
  end
end

-- Read in one go what the settled nodes' downstreams need.
local function read_downstreams(run, some)
  local wanted, seen = {}, {}
  for position = 1, #some do
    local node, item = split(some[position])
    local row = node and not item and row_of(run, node)
    if row then want(run, row[9], 1, wanted, seen) end
  end
  if #wanted > 1 then read_ahead(run, wanted) end
end

-- Read in one go the values that nodes take from their upstreams.
local function read_inputs(run, some)
  local wanted, seen = {}, {}
  for position = 1, #some do
    local row = row_of(run, (split(some[position])))
    for _, upstream in ipairs(row and row[8] or {}) do
      local key = digits(upstream)
      if not seen[key] then wanted[#wanted + 1], seen[key] = key, true end
    end
  end
  if #wanted == 0 then return end
  local values = call('HMGET', run.values, unpack(wanted))
  for position = 1, #wanted do run.given[wanted[position]] = values[position] end
end

-- A process that holds claims lives for as long as it says so.
local has_refreshed = false
local function refresh()
  if not has_refreshed then
    call('ZADD', key_of('holders'), now + header.lease_ms, header.holder)
    call('PERSIST', key_of('holders')) -- however long nobody sweeps, who held what must stay known
  end
  has_refreshed = true
end

-- A server without memory refuses the first write of a script, if it may need memory, and none after it. What ends that
-- which has begun, or frees memory, begins with one that is never refused.
local function although_full() call('DEL', key_of('full')) end

-- Whether a claim is still valid. Fence 0 is no claim's: a map whose items are all open has given its own up.
local function holds(record, fence)
  return record and record.status == 'running' and record.fence == fence and fence > 0
end
