local function expire_run(run)
  for _, suffix in ipairs({'', ':nodes', ':values', ':failures', ':events'}) do
    call('PEXPIRE', run.base .. suffix, run.retention)
  end
  for _, suffix in ipairs({':todo', ':due', ':aside'}) do call('UNLINK', run.base .. suffix) end
  call('PEXPIRE', key_of('values', run.id), run.retention)
  local plan = key_of('plan', run.plan)
  -- Not before the last of its runs goes, which need not be the last one that ended.
  local kept = math.max(now + run.retention, number_or(call('HGET', plan, 'kept') or nil, 0))
  call('HSET', plan, 'kept', kept)
  if call('HINCRBY', plan, 'runs', -1) <= 0 then call('PEXPIREAT', plan, kept) end
end

local function finish(run, status)
  run.status = status
  set(run, 'status', status)
  set(run, 'ended', now)
  tell(run, 'run ' .. status .. ' 0', '')
  put(run) -- what is made after the keys were told to go would stay
  if status == 'completed' then call('HSET', key_of('plan', run.plan), 'last', run.id) end
  expire_run(run)
  call('SREM', key_of('open'), run.id)
  if call('HDEL', run.base, 'deadline') == 1 then call('ZREM', key_of('timers'), run.id .. ' deadline 0') end
  call('PUBLISH', key_of('finished'), run.id)
  local parked = call('HGET', run.base, 'then')
  if parked and parked ~= '' then -- nobody waits for a run that is opened again, and has been told of before
    send(run, 'then', parked)
    watch(run, now + is_lost_after())
  elseif run.canvas then
    call('ZREM', key_of('canvas'), run.id)
  end
end

local settle_item

-- All that follows from one outcome comes before what follows from the next: so a node goes by what happened first.
-- A call works off what it caused itself, if it can; only what is left over stands in Redis.
local function later(run, what, status, cursor, only)
  if run.first == nil then -- whoever came before has left something?
    run.first, run.last = 1, 0
    run.is_behind = call('EXISTS', run.base .. ':todo') == 1
  end
  local entry = {what, status, cursor, only}
  if run.is_behind then
    call(run.follows and 'LPUSH' or 'RPUSH', run.base .. ':todo', table.concat(entry, ' '))
  elseif run.follows then
    run.first = run.first - 1
    run[run.first] = entry
  else
    run.last = run.last + 1
    run[run.last] = entry
  end
  run.todo = true
end

-- The next entry: its parts, or if it stood in Redis, its text.
local function next_todo(run)
  if run.first == nil then run.first, run.last, run.is_behind = 1, 0, true end
  if run.is_behind then
    local entry = call('LPOP', run.base .. ':todo')
    if entry then return entry end
    run.is_behind = false
  end
  if run.first > run.last then return nil end
  run.first = run.first + 1
  return run[run.first - 1]
end

-- Leave what is left over to whoever comes next.
local function leave(run)
  local entries = {}
  for position = run.first or 1, run.last or 0 do entries[#entries + 1] = table.concat(run[position], ' ') end
  in_pieces('RPUSH', run.base .. ':todo', entries)
  run.first, run.last, run.is_behind = 1, 0, true
end

-- A record as it is once settled.
local function settled(run, record, status, reason)
  local how = reason and status .. ' ' .. reason or status
  local ended = run.ended[how]
  if not ended then
    ended = {}
    run.ended[how] = ended
  end
  if not ended[record] then
    local final = turned(record, status, 0)
    local began = tonumber(record.started) or 0
    final.ended, final.more = digits(math.max(0, now - began)), reason or ''
    ended[record] = final
  end
  return ended[record]
end

-- Settle a node or an item. What follows downstream goes onto the todo list.
local function settle(run, key, record, status, reason, alone)
  local node, item = split(key)
  local row, map = row_of(run, node), record.map
  if alone or record.more == '~' or record.more == '!' then alone = status == 'completed' and 'alone' end
  if map and reason then -- the map failed before all its items were open: those that are left count no longer
    count(run, 'total', map.settled - map.total)
    map.broken = reason
  end
  local final = settled(run, record, status, reason)
  write(run, key, final)
  announce(run, key, final)
  count(run, 'settled', 1)
  count(run, status, 1)
  if item then return settle_item(run, node, status) end
  count(run, 'remaining', -1)
  if #row[9] > 0 then
    later(run, node, alone or status, 0)
  elseif status ~= 'completed' and status ~= 'skipped' then
    count(run, 'bad_sinks', 1)
  end
end

-- Count an item for its map; the last one settles the map, the first bad one what requires all of them.
function settle_item(run, node, status)
  local record = record_of(run, node)
  local map = record.map
  map.settled = map.settled + 1
  if status ~= 'completed' then
    if not map.broken then later(run, node, status, 0, 'required') end
    if not map.broken or status == 'failed' then map.broken = status end
  end
  if map.settled == map.total then
    settle(run, node, record, map.broken or 'completed')
  else
    write(run, node, record)
  end
end

-- All upstreams are settled: straight to the caller if the node is inline and the caller can take it, else to a worker.
local function ready(run, key, record)
  local row = row_of(run, key)
  local is_fused = fused[run.id .. ' ' .. key]
  local is_here = row[1] == 'inline' and this.takes_inline and #inline < INLINE and not run.paused
  if header.goes_on and (record.crashes > 0 or row[5] <= 1) then is_here = false end
  if is_fused or (is_here and (not run.canvas or canvas_field(run, key) == 'i')) then
    write(run, key, as_ready(record))
    inline[#inline + 1] = {run, key}
  else
    release(run, key, record, row)
  end
end

-- A node's downstream edges from a cursor on, as far as one field of the plan has them (see rows.py): flat, at which cursor
-- they begin, and that of the next ones, if there are any.
local function edges_of(run, node, cursor)
  local row = row_of(run, node)
  local most, all = row[11], row[12]
  if not most then return row[9], 0, nil end
  local piece = math.floor(cursor / most)
  local following = (piece + 1) * most < all and (piece + 1) * most or nil
  if piece == 0 then return row[9], 0, following end
  local text = call('HGET', key_of('plan', run.plan), 'downstream:' .. node .. ':' .. piece)
  return cjson.decode(text), piece * most, following
end

local WIDE = 32 -- parts of edges that are worth a look at all of them together

-- One upstream less is to be waited for; `mark`: what Celery cannot know of it.
local function count_down(run, key, record, mark)
  local left = record.left - 1
  local other = turned(record, left > 0 and 'pending' or 'ready', 0)
  if record.more == '' or mark == '!' then other.more = mark end
  if left > 0 then
    other.left = left
    write(run, key, other)
  else
    ready(run, key, other)
  end
end

-- Follow one entry of the todo list along the downstream edges; gives the cursor where the budget ended, if it did.
local function follow(run, node, status, cursor, only_required)
  local downstream, first, following = edges_of(run, node, cursor)
  local mark = ''
  if status == 'alone' then
    status, mark = 'completed', '~'
  elseif status ~= 'completed' then
    mark = run.canvas and '!' or ''
  end
  local is_plain = status == 'completed' and mark == '' and not only_required
  if #downstream - (cursor - first) > WIDE then -- else it was read with what settled it
    read_along(run, {downstream, cursor - first + 1})
  end
  for position = cursor - first + 1, #downstream, 2 do
    if this.budget <= 0 then return first + position - 1 end
    this.budget = this.budget - 1
    local key, upstreams = downstream[position], downstream[position + 1] -- below 0: the edge is optional
    local record = stored(run, key, math.abs(upstreams))
    local just_waits = type(record) == 'number'
    if just_waits and is_plain then
      if record > 1 then write(run, key, record - 1) else ready(run, key, READY) end
    elseif just_waits or not FINAL[record.status] then
      if just_waits then record = waiting(record) end
      if upstreams > 0 and status ~= 'completed' then
        stand_apart(run, key)
        settle(run, key, record, CASCADE[status], CASCADE[status])
      elseif not only_required then
        if status ~= 'completed' then stand_apart(run, key) end
        count_down(run, key, record, mark)
      end
    end
  end
  return following
end

-- What else stands on the todo list: nodes that a run begins with, and what a retry makes anew.
local function follow_up(run, entry)
  local what, key, record = string.match(entry, '^(%l+) (%S+) ?(.*)$')
  this.budget = this.budget - 1
  if what == 'sources' then
    open_sources(run, key)
  elseif what == 'ready' then -- these come last
    if run.reopening then call('HDEL', run.base, 'reopening') end
    run.reopening = false
    enqueue(run, key, record_of(run, key), row_of(run, (split(key))))
  else
    this.budget = this.budget - 1 -- as much as two edges
    if what == 'put' then
      call('HSET', run.nodes, key, record)
      call('HDEL', run.values, key)
    else
      call('HDEL', run.nodes, key)
      call('HDEL', run.values, key, 'i' .. key)
    end
    run.records[key], run.texts[key], run.changed[key] = nil, nil, nil
    call('HDEL', run.base .. ':failures', key)
    call('HDEL', run.base, 'unknown:' .. key, 'lost:' .. key, 'doubt:' .. key)
    if run.letters == nil then run.letters = call('EXISTS', key_of('dead')) == 1 end
    if run.letters then call('ZREM', key_of('dead'), run.id .. ' ' .. key) end
  end
end

-- Have the nodes that were set aside while the run was paused delivered, within the budget.
local function bring_back(run)
  local aside = run.base .. ':aside'
  local keys = this.budget > 0 and call('ZPOPMIN', aside, this.budget) or {}
  for position = 1, #keys, 2 do
    local record = record_of(run, keys[position])
    if record and record.status == 'ready' then
      enqueue(run, keys[position], record, row_of(run, (split(keys[position]))))
    end
  end
  this.budget = this.budget - #keys / 2
  run.back = call('EXISTS', aside) == 1
end

-- Work off the run's consequences within the budget. What is left stays on the todo list, with a timer that has the
-- sweep go on with it should the caller die now.
local function propagate(run)
  while run.todo and this.budget > 0 do
    local entry = next_todo(run)
    if not entry then
      run.todo = false
      break
    end
    local node, status, cursor, only
    if type(entry) == 'table' then
      node, status, cursor, only = unpack(entry)
    else
      node, status, cursor, only = string.match(entry, '^(%d+) (%S+) (%d+) ?(%S*)$')
    end
    if node then
      run.follows = true
      local stopped = follow(run, node, status, tonumber(cursor), only == 'required')
      run.follows = false
      if stopped then
        run.follows = true
        later(run, node, status, stopped, only)
        run.follows = false
      end
    else
      follow_up(run, entry)
    end
  end
  if run.todo and run.is_behind == false and run.first > run.last then run.todo = false end
  if run.todo then
    leave(run)
    run.todo = call('EXISTS', run.base .. ':todo') == 1
  end
  if run.back and not run.paused then bring_back(run) end
  if run.todo or (run.back and not run.paused) then
    call('ZADD', key_of('timers'), now, run.id .. ' todo 0')
  end
end

-- Add to the counters, and end the run if nothing remains.
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

return finish, later, leave, settle, propagate, flush_all
