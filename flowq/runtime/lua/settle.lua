-- settle: worker token queue process thread busy batch listens_ms goes_on inline outcomes
-- Record the outcomes of attempts, release what they decide, and give the drain its next nodes (as claim does).
-- An outcome: {run, keys, fence, kind, value, failure, retry, delay_ms, timed_out, fused, alone, returns}, without those
-- that say nothing. Nodes that came to the same stand in one; `value` is the position in ARGV of the first one's, and the
-- others follow. In a canvas, `alone`: its message stood outside of its segment; `returns`: for a retry, that its message
-- comes again by itself. `kept`: the name of a large value beside the run.
-- `inline`: the caller can take inline nodes; without a token, it is no drain and takes nothing else. Replay: a fence
-- holds once. Returns {claims, messages, positions of outcomes that no longer counted, unfinished runs}.
this.takes_inline = header.inline
local stale = {}
local keys = {}
for _, outcome in ipairs(header.outcomes) do
  local its = keys[outcome.run] or {}
  keys[outcome.run] = its
  for _, key in ipairs(outcome.keys) do
    its[#its + 1] = key
    if outcome.fused then fused[outcome.run .. ' ' .. key] = true end
  end
end
for id, its in pairs(keys) do
  local run = run_of(id)
  if is_live(run) then
    if #its > 1 then read_ahead(run, its) end
    read_downstreams(run, its)
  end
end

-- A fused node became ready in this very call and was run by this caller already: claim it without a detour.
local function fuse(run, key)
  for position, entry in ipairs(inline) do
    if entry[1] == run and entry[2] == key then
      table.remove(inline, position)
      local record = ready_record(run, key)
      return record and begin_node(run, key, record)
    end
  end
end

-- A worker does not know a node's processor: another one may, or there will be one that does.
local UNKNOWN_PAUSE = 500
local function is_worth_waiting(run, key)
  call('HSETNX', run.base, 'unknown:' .. key, now)
  return now - tonumber(call('HGET', run.base, 'unknown:' .. key)) < header.unknown_ms
end

-- Record how an attempt under a valid claim ended; `value`: its position in ARGV.
local function ended_as(run, key, record, outcome, value)
  if outcome.kept and call('HEXISTS', key_of('values', run.id), outcome.kept) == 0 then
    hand_back(run, key, record) -- the server was away since, and has lost it
  elseif outcome.kind == 'completed' then
    if value then keep(run, key, args[value]) end
    if record.attempt > 1 then call('HDEL', run.base .. ':failures', key) end
    settle(run, key, record, 'completed', nil, outcome.alone)
  elseif outcome.kind == 'skipped' then
    settle(run, key, record, 'skipped', 'skipped')
  elseif outcome.kind == 'released' then
    hand_back(run, key, record)
  elseif outcome.kind == 'unknown' and is_worth_waiting(run, key) then
    local ready = turned(record, 'ready', 0)
    ready.attempt = record.attempt - 1
    write(run, key, ready)
    call('ZADD', key_of('timers'), now + UNKNOWN_PAUSE, run.id .. ' ' .. key .. ' again')
  else
    call('HSET', run.base .. ':failures', key, outcome.failure or '')
    if outcome.retry and record.attempt - record.crashes < row_of(run, (split(key)))[4] then
      local pending = turned(record, 'pending', 0)
      call('HDEL', run.base, 'unknown:' .. key)
      write(run, key, pending)
      announce(run, key, pending)
      if outcome.returns then
        expect(run, key, outcome.delay_ms or 0)
      else
        call('ZADD', key_of('timers'), now + (outcome.delay_ms or 0), run.id .. ' ' .. key .. ' ' .. record.attempt)
      end
    else
      if outcome.kind == 'unknown' then keep_letter(run, key) end
      settle(run, key, record, 'failed', outcome.timed_out and 'timed_out' or 'failed')
    end
  end
  propagate(run)
end

local position = 0
for _, outcome in ipairs(header.outcomes) do
  local run = run_of(outcome.run)
  for number, key in ipairs(outcome.keys) do
    local fence, record = outcome.fence, is_live(run) and record_of(run, key)
    if record and outcome.fused then
      record = fuse(run, key)
      fence = record and record.fence
    end
    local node, item = split(key)
    local valid = holds(record, fence)
    if valid and outcome.kind == 'completed' and not item and row_of(run, node)[6] == 1 then
      valid = false -- a map completes by its items; until they are open, it is held
    elseif fence then
      let_go(outcome.run .. ' ' .. key .. ' ' .. digits(fence))
    end
    if valid then
      ended_as(run, key, record, outcome, outcome.value and outcome.value + number - 1)
    else
      stale[#stale + 1] = position
    end
    position = position + 1
  end
end
flush_all()
next_claims()
local unfinished = {}
for id, run in pairs(runs) do
  if run and (run.todo or run.back) and is_open(run) then unfinished[#unfinished + 1] = id end
end
return {claims, wake_ups(), stale, unfinished}
