-- A number that was never given out before, even if the server has come back without its last seconds: not less than
-- the microseconds since the run was submitted. What a call claims of a run has the same one: so it is the same record.
local function draw_fence(run)
  run.fence = math.max(run.fence + 1, clock[1] * 1000000 + clock[2] - run.submitted * 1000)
  set(run, 'fence', run.fence)
  run.begun = {}
end

-- A node's record if it may be begun.
local function ready_record(run, key)
  local record = is_live(run) and record_of(run, key)
  return record and record.status == 'ready' and record or nil
end

-- READY to RUNNING, under a new fence.
local function begin_node(run, key, record)
  if run.canvas then call('ZREM', run.base .. ':due', key) end
  if not run.has_drawn or record.drawn then draw_fence(run) end -- else it is still its first claim in this call
  run.has_drawn = true
  local begun = run.begun[record]
  if not begun then
    begun = turned(record, 'running', run.fence)
    begun.attempt, begun.started, begun.worker, begun.drawn = record.attempt + 1, now_text, header.worker, true
    run.begun[record] = begun
  end
  write(run, key, begun)
  announce(run, key, begun)
  if run.status == 'pending' then
    run.status = 'running'
    set(run, 'status', 'running')
    set(run, 'started', now)
  end
  return begun
end

-- The run's input, once in a reply: 1 stands for what came before.
local function input_of(run)
  if run.has_input then return 1 end
  run.has_input = true
  return call('HGET', run.base, 'input')
end

-- `claims` are the fields of all claims, one after the other, as a list of lists takes longer.
local FIELDS = 11
local function claimed() return #claims / FIELDS end

-- Give a begun node to the caller: its lease, its fence, and the inputs if they are few. Of the same run as the one
-- before: 1 stands for what came with that.
local function hand(run, key, record)
  refresh()
  take_hold(lease_of(run, key, record.fence))
  local node, item = split(key)
  local row = row_of(run, node)
  local value = false
  if item then value = run.given['i' .. key] end
  if value == nil then value = call('HGET', run.values, 'i' .. key) end
  local records, values = false, false
  local inputs = row[8]
  if #inputs > 0 then
    if row[10] == 1 then
      put(run) -- how they ended may be news
      records = call('HMGET', run.nodes, unpack(inputs))
    end
    values = {}
    for position = 1, #inputs do
      local upstream = inputs[position]
      if run.given[upstream] == nil then read_inputs(run, {key}) end
      values[position] = run.given[upstream]
    end
  end
  local is_same, at = run == this.handed, #claims
  this.handed = run
  claims[at + 1], claims[at + 2], claims[at + 3] = is_same and 1 or run.id, key, record.attempt
  claims[at + 4], claims[at + 5], claims[at + 6] = record.crashes, record.fence, is_same and 1 or run.plan
  claims[at + 7], claims[at + 8] = row[7] == 1 and input_of(run), value
  claims[at + 9], claims[at + 10], claims[at + 11] = row[6] == 1 and map_of(record).opened or 0, records, values
end

local function claim(run, key)
  local record = ready_record(run, key)
  if not record then return end
  if run.paused then return set_aside(run, key) end
  hand(run, key, begin_node(run, key, record))
end

-- Whether nothing else may be in a batch with a node: it may be the one that its process died of, or the next such end is
-- its last one; and all that a process has claimed ends with it.
local function is_alone(run, key)
  local record = ready_record(run, key) -- else the entry leads nowhere
  return record and (record.crashes > 0 or row_of(run, (split(key)))[5] <= 1)
end

-- Claim a list's entries, as far as they may be claimed together; the others go back to where they were. Gives whether all
-- did.
local function claim_together(list, entries, batch)
  local of, keys, of_run = {}, {}, {}
  for position = 1, #entries do
    local entry = entries[position]
    local gap = string.find(entry, ' ', 1, true)
    local run, key = run_of(string.sub(entry, 1, gap - 1)), string.sub(entry, gap + 1)
    of[position], keys[position] = run or false, key
    if run then
      local its = of_run[run] or {}
      of_run[run], its[#its + 1] = its, key
    end
  end
  if #entries > 1 then
    for run, its in pairs(of_run) do
      read_ahead(run, its)
      read_inputs(run, its)
    end
  end
  for position = 1, #entries do
    local run, key = of[position], keys[position]
    local last = #entries
    if batch and is_alone(run, key) then last = (position > 1 or header.goes_on) and position - 1 or 1 end
    if last >= position then claim(run, key) end
    if last < #entries then
      for back = #entries, last + 1, -1 do call('LPUSH', list, entries[back]) end
      return last == 0
    end
  end
end

-- So much of a batch is not worth another worker's wake-up.
local KEEPS = 1 / 8

-- Take up to `most` nodes from a queue's lane; entries of ended runs and of nodes that are no longer ready are dropped.
-- For a batch, no more than leaves the queue's other slots their share.
local function take(queue, lane, most)
  if most < 1 then return end
  local list, before, batch = key_of('queue', queue, lane), claimed(), header.batch and lane == 'process'
  if most > 1 and batch then
    local share = math.ceil(call('LLEN', list) / math.max(1, slots_of(queue)))
    most = math.max(1, math.floor(most * KEEPS), math.min(most, share))
  end
  for _ = 1, math.ceil(BUDGET / most) do -- a cancelled run may have left more; then this drain ends, and another goes on
    local entries = call('LPOP', list, most - (claimed() - before))
    if not entries then return end
    local went_back = claim_together(list, entries, batch)
    -- Whoever must be alone is looked for in one piece of the list, not in several; and is left to a later call.
    if claimed() - before >= most or (batch and (claimed() > before or went_back)) then return end
  end
end

-- What the caller does next: what it was promised, its inline nodes, then what its queue has. If there is nothing and
-- nothing else runs in this drain, the drain ends in this same step, or listens for its bell from this step on: so no
-- wake-up is missed.
local function next_claims()
  local is_drain = header.token ~= ''
  if not is_drain and #inline == 0 and not this.takes_inline then return end
  this.is_claiming = true
  push_all()
  for _, entry in ipairs(inline) do claim(entry[1], entry[2]) end
  if is_drain and #claims == 0 then take(header.queue, 'process', header.process) end
  if is_drain then take(header.queue, 'thread', header.thread) end
  if not is_drain then return end
  local drains = key_of('queue', header.queue, 'drains')
  local is_idle, idle = #claims == 0 and header.busy == 0, key_of('queue', header.queue, 'idle')
  if is_idle then touched[header.queue] = true end -- it may not have asked for what waits
  if is_idle and header.listens_ms > 0 then
    call('ZADD', idle, now + header.listens_ms, header.token)
    call('PEXPIRE', idle, header.listens_ms + 60000)
  end
  if is_idle and header.listens_ms == 0 then
    call('ZREM', drains, header.token)
    call('ZREM', idle, header.token)
  else
    call('ZADD', drains, now + header.lease_ms, header.token)
  end
end

return FIELDS, ready_record, begin_node, hand, claim, next_claims
