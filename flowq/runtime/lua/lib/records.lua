-- A run is these keys (see keys.py); all get a TTL when it ends:
--   run:<id>            hash    status, plan, queue, canvas, held, paused, reopening (a retry's records are not all
--                               in place), remaining, bad_sinks, fence, counters, input, names, times, reason (of an end
--                               that no node brought about), asked (what an idempotent submit is)
--   run:<id>:nodes      hash    key -> status|attempt|crashes|fence|started|ended|worker|more
--                               started: ms since the epoch; ended: ms since it was started, or since the epoch if it
--                               never was
--                               more: PENDING: upstreams not settled yet, and a mark (see delivery); a map that was
--                               opened: total,opened,settled,broken; when final: the reason if it did not complete.
--                               A bare number: PENDING, and nothing else is to be said than how many upstreams are
--                               not settled yet
--   run:<id>:values     hash    key -> output; "i" .. key -> a map item's input
--   run:<id>:failures   hash    key -> the last failure
--   run:<id>:events     stream  what happened, for whoever watches
--   run:<id>:todo       list    consequences that were too many for one call: node status cursor (and see follow_up)
--   run:<id>:aside      zset    ready nodes of a paused run, by when they became so
--   run:<id>:due        zset    dispatched as a canvas: ready nodes by when their messages are taken for lost
-- A node without a record is as it began: waiting for all its upstreams, or ready if it has none.
local FINAL = {completed = true, failed = true, cancelled = true, skipped = true, upstream_failed = true}
local OPEN = {pending = true, running = true}
local CASCADE = {failed = 'upstream_failed', upstream_failed = 'upstream_failed', skipped = 'skipped',
                 cancelled = 'cancelled'}

-- What is so whatever the call is, and so is cached for the next ones while it is little: rows of plans, which are named by
-- what they say; the same by their texts, which many nodes have in common; and what keys consist of.
local CACHED = 2 ^ 20 -- characters, of which an entry is worth some besides its own
local ENTRY = 50
local rows, decoded, node_of, item_of, cached = {}, {}, {}, {}, 0
local function cache(text) cached = cached + #text + ENTRY end
local function tidy()
  if cached > CACHED then rows, decoded, node_of, item_of, cached = {}, {}, {}, {}, 0 end
end

-- What is known of a plan's rows.
local function rows_of(plan)
  local of_plan = rows[plan]
  if not of_plan then
    of_plan = {}
    rows[plan] = of_plan
    cache(plan)
  end
  return of_plan
end

-- What a call knows of a run; `head`: what run_of reads of it.
local function known_run(id, base, head)
  local run = {id = id, base = base, status = head[1], plan = head[2], queue = head[3], retention = tonumber(head[4]),
               canvas = head[5], held = head[6], paused = head[7], fence = number_or(head[8] or nil, 0),
               submitted = head[9], reopening = head[10], nodes = base .. ':nodes', values = base .. ':values',
               records = {}, texts = {}, given = {}, counts = {}, head = {}, changed = {}, outputs = {}, told = {},
               begun = {}, ended = {}, rows = rows_of(head[2])}
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
    cache(text)
  end
  return row
end

-- Take a row, or another field of the plan, from its text.
local function know(run, name, text)
  local row = decode(text)
  run.rows[name] = row
  cache(name)
  return row
end

-- A node's row of the plan (see rows.py): lane, queue, upstreams, max_attempts, max_crashes, is_map, reads_input, inputs,
-- downstream, reads_endings, and if the downstreams are many, how many parts of them stand here and how many there are;
-- nil if the plan has no such node.
local function row_of(run, node)
  local row = run.rows[node]
  if not row then
    local text = call('HGET', key_of('plan', run.plan), node)
    if not text then return nil end
    row = know(run, node, text)
  end
  return row
end

local function split(key)
  local node = node_of[key]
  if not node then
    local item
    node, item = string.match(key, '^(%d+)%.?(%d*)$')
    node_of[key], item_of[key] = node, item ~= '' and item or nil
    cache(key)
  end
  return node, item_of[key]
end

-- A node as it stands: {status, attempt, crashes, fence, started, ended, worker, more}; `left` of a PENDING one: upstreams
-- not settled yet; `map`: what is counted of a map. A record is never altered (but for a map's counts): what changes a
-- node gives it another one. So nodes that go the same way have the same record, and what comes of it is worked out once.
-- A node that just waits has none: a number says for how many.
local READY = {status = 'ready', attempt = 0, crashes = 0, fence = 0, started = '', ended = '', worker = '', more = ''}
local NO_MAP = {total = -1, opened = 0, settled = 0}

local function map_of(record) return record.map or NO_MAP end

-- Another record, as it will be with this status and fence; its caller may go on to complete it.
local function turned(record, status, fence)
  return {status = status, attempt = record.attempt, crashes = record.crashes, fence = fence, started = record.started,
          ended = record.ended, worker = record.worker, more = record.more, map = record.map, drawn = record.drawn}
end

local function as_ready(record)
  return (record.status == 'ready' and record.fence == 0) and record or turned(record, 'ready', 0)
end

local function waiting(left)
  local record = turned(READY, 'pending', 0)
  record.left = left
  return record
end

local function parse(text)
  local record = this.parsed[text] or tonumber(text)
  if record then return record end
  local status, attempt, crashes, fence, started, ended, worker, more =
    string.match(text, '^([^|]*)|(%d*)|(%d*)|(%d*)|(%d*)|(%d*)|([^|]*)|(.*)$')
  record = {status = status, attempt = tonumber(attempt), crashes = tonumber(crashes), fence = tonumber(fence),
            started = started, ended = ended, worker = worker, more = more}
  if status == 'pending' then
    local left, mark = string.match(more, '^(%d+)(.?)$')
    if left then record.left, record.more = tonumber(left), mark end
  end
  local total, opened, settled, broken = string.match(more, '^(-?%d+),(%d+),(%d+),(.*)$')
  if total then -- of one map alone
    record.map = {total = tonumber(total), opened = tonumber(opened), settled = tonumber(settled),
                  broken = broken ~= '' and broken or nil}
  else
    this.parsed[text] = record
  end
  return record
end

-- A node's or item's record, or how many upstreams it just waits for, as it stands now, with what this call has changed;
-- nil if the plan has no such node. `all`: how many upstreams it has, if the caller knows.
local function stored(run, key, all)
  local record = run.records[key]
  if record then return record end
  local text = run.texts[key]
  if text == nil then text = call('HGET', run.nodes, key) end
  if text then
    record = parse(text)
  else
    local node, item = split(key)
    local row = not all and row_of(run, node)
    if row == nil then return nil end
    local waits = item and 0 or all or row[3]
    record = waits > 0 and waits or READY
  end
  run.records[key] = record
  return record
end

-- What is known of a node or item; nil if the plan has no such node, or the map is not open so far.
local function record_of(run, key)
  local node, item = split(key)
  if not node then return nil end
  local map
  if item then
    map = stored(run, node)
    if not map or type(map) == 'number' or tonumber(item) >= map_of(map).opened then return nil end
  end
  local record = stored(run, key)
  if type(record) == 'number' then return waiting(record) end
  -- A map that fails before all its items are open takes along those that are; it writes nothing to them.
  if map and FINAL[map.status] and not FINAL[record.status] then return turned(record, 'cancelled', record.fence) end
  return record
end

-- Read rows of the plan in one go.
local function read_rows(run, some)
  local of_plan, nodes, asked = run.rows, {}, {}
  for position = 1, #some do
    local node = split(some[position])
    if node and not of_plan[node] and not asked[node] then nodes[#nodes + 1], asked[node] = node, true end
  end
  if #nodes == 0 then return end
  local known = call('HMGET', key_of('plan', run.plan), unpack(nodes))
  for position = 1, #nodes do
    if known[position] then know(run, nodes[position], known[position]) end
  end
end

-- Read records in one go.
local function read_records(run, some)
  if #some == 0 then return end
  local texts, known = run.texts, call('HMGET', run.nodes, unpack(some))
  for position = 1, #some do texts[some[position]] = known[position] end
end

-- Read what several nodes need in one go: so each costs far less.
local function read_ahead(run, some)
  read_records(run, some)
  read_rows(run, some)
end

local function lease_of(run, key, fence) return run.id .. ' ' .. key .. ' ' .. digits(fence) end

-- Read in one go the nodes that edges lead to from a place on, as many as one call follows, and the rows of those that
-- wait for no other upstream. `ways`: lists of edges, each followed by the place.
local function read_along(run, ways)
  local keys, upstreams, texts = {}, {}, run.texts
  for way = 1, #ways, 2 do
    local edges, first = ways[way], ways[way + 1]
    for place = first, math.min(#edges, first + 2 * (BUDGET - #keys) - 1), 2 do
      local key = edges[place]
      if texts[key] == nil then
        texts[key] = false -- asked for
        keys[#keys + 1], upstreams[#keys + 1] = key, edges[place + 1]
      end
    end
  end
  read_records(run, keys)
  local ready = {}
  for position = 1, #keys do
    local key = keys[position]
    if (texts[key] or digits(math.abs(upstreams[position]))) == '1' then ready[#ready + 1] = key end
  end
  read_rows(run, ready)
end

-- Read in one go what the settled nodes' downstreams need.
local function read_downstreams(run, some)
  local ways = {}
  for position = 1, #some do
    local node, item = split(some[position])
    local row = node and not item and row_of(run, node)
    if row then ways[#ways + 1], ways[#ways + 2] = row[9], 1 end
  end
  read_along(run, ways)
end

-- Read in one go the values that nodes take from their upstreams, and items their inputs.
local function read_inputs(run, some)
  local wanted, given = {}, run.given
  for position = 1, #some do
    local node, item = split(some[position])
    local row = row_of(run, node)
    local inputs = row and row[8] or {}
    for place = 1, #inputs do
      local key = inputs[place]
      if given[key] == nil then wanted[#wanted + 1], given[key] = key, false end
    end
    if item then wanted[#wanted + 1] = 'i' .. some[position] end
  end
  if #wanted == 0 then return end
  local values = call('HMGET', run.values, unpack(wanted))
  for position = 1, #wanted do given[wanted[position]] = values[position] end
end

-- A process that holds claims lives for as long as it says so.
local function refresh()
  if not this.has_refreshed then
    call('ZADD', key_of('holders'), now + header.lease_ms, header.holder)
    call('PERSIST', key_of('holders')) -- however long nobody sweeps, who held what must stay known
  end
  this.has_refreshed = true
end

-- Whether a claim is still valid. Fence 0 is no claim's: a map whose items are all open has given its own up.
local function holds(record, fence)
  return record and record.status == 'running' and record.fence == fence and fence > 0
end

return FINAL, CASCADE, READY, tidy, known_run, run_of, is_open, is_live, know, row_of, split, map_of, turned, as_ready,
  waiting, stored, record_of, read_ahead, read_along, read_downstreams, read_inputs, lease_of, refresh, holds
