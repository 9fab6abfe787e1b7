-- How a node that is ready reaches a worker. Pull: it goes onto its queue's list, and wake-ups ask for drains. Canvas: a
-- message is for it alone; Celery sends it from within a segment, or else the caller is asked to send it. Whoever claims
-- a node ends the wait for its message; the sweep sends again what nobody claims.
--
-- A plan's fields "c<digest>:<node>" say how: nothing for a node within a segment, "<segment> <heads>" for one that a
-- segment begins with, "i" for one that needs no message. Marks on a node say what Celery cannot know: "!" that an
-- upstream did not complete, "~" that one ran outside of its segment.

-- What of a canvas is to be sent: a node's message (no document), a segment, or what waits for the run's end.
local function send(run, key, document) this.sends[#this.sends + 1] = {run.id, run.plan, key, document} end

local function is_lost_after() return math.floor(header.lease_ms / 3) end

-- Have the sweep look after the run, when something of it is due.
local function watch(run, due) call('ZADD', key_of('canvas'), 'LT', due, run.id) end

-- A message of this node is on its way; if nobody has claimed it by then, it is lost.
local function expect(run, key, wait)
  local due = now + wait + is_lost_after()
  call('ZADD', run.base .. ':due', due, key)
  watch(run, due)
end

local function canvas_field(run, name) return call('HGET', key_of('plan', run.plan), 'c' .. run.canvas .. ':' .. name) end

local function queue_of(run, row) return row[2] ~= '' and row[2] or run.queue end

-- Of all workers that serve a queue.
local function slots_of(queue)
  local slots = 0
  for _, of_worker in ipairs(call('HVALS', key_of('queue', queue, 'slots'))) do slots = slots + tonumber(of_worker) end
  return slots
end

-- A paused run's ready nodes wait until it is resumed.
local function set_aside(run, key)
  if run.canvas then call('ZREM', run.base .. ':due', key) end
  call('ZADD', run.base .. ':aside', 'NX', now, key)
end

-- What has become ready in this call, by list: all of a list is pushed in one command, before anybody counts or takes.
local function push_all()
  for list, entries in pairs(this.pushed) do in_pieces('RPUSH', list, entries) end
  this.pushed = {}
end

-- What this call pushes onto a queue's lane.
local function lane_of(queue, lane)
  local list, pushed = key_of('queue', queue, lane), this.pushed
  touched[queue], pushed[list] = true, pushed[list] or {}
  return pushed[list]
end

-- READY, and to be delivered to whoever comes first.
local function enqueue(run, key, record, row)
  write(run, key, as_ready(record))
  if run.paused then return set_aside(run, key) end
  if run.canvas then
    expect(run, key, 0)
    send(run, key, '')
    return
  end
  local entries = lane_of(queue_of(run, row), row[1] == 'thread' and 'thread' or 'process')
  entries[#entries + 1] = run.id .. ' ' .. key
end

-- A segment that begins with this node can no longer be sent as a whole: its other heads go by themselves.
local function stand_apart(run, key)
  local segment = run.canvas and string.match(canvas_field(run, key) or '', '^(%d+) ')
  if segment then call('HSET', run.base, 'apart:' .. segment, 1) end
end

-- READY because its upstreams are settled: in a canvas, Celery may be about to send it, or a segment begins with it.
local function release(run, key, record, row)
  if run.paused then stand_apart(run, key) end
  if not run.canvas or run.paused then return enqueue(run, key, record, row) end
  local place = canvas_field(run, key) or ''
  local segment, heads = string.match(place, '^(%d+) (%d+)$')
  local is_apart = segment and call('HEXISTS', run.base, 'apart:' .. segment) == 1
  if place == 'i' or is_apart or record.more == '!' or (record.more == '~' and not segment) then
    return enqueue(run, key, record, row)
  end
  local other = turned(record, 'ready', 0)
  if segment then other.more = '' end
  write(run, key, other)
  expect(run, key, 0)
  if segment and call('HINCRBY', run.base, 'heads:' .. segment, 1) == tonumber(heads) then
    send(run, 's' .. segment, canvas_field(run, 's' .. segment))
  end
end

-- Some of the nodes that a run begins with, as the plan's field "sources:<number>" lists them: [lane, queue, nodes].
local function open_sources(run, number)
  local lane, queue, nodes = unpack(row_of(run, 'sources:' .. number))
  this.budget = this.budget - math.ceil(#nodes / 5) -- cheaper than an edge
  if run.paused then
    for _, node in ipairs(nodes) do set_aside(run, node) end
  elseif run.canvas then
    local entries, due = {}, run.held and '+inf' or now + is_lost_after()
    for _, node in ipairs(nodes) do
      entries[#entries + 1] = due
      entries[#entries + 1] = node
    end
    call('ZADD', run.base .. ':due', unpack(entries))
  else
    local entries = lane_of(queue ~= '' and queue or run.queue, lane)
    for _, node in ipairs(nodes) do entries[#entries + 1] = run.id .. ' ' .. node end
  end
end

-- Whether the message of a node that was due at a time is lost, and does not just wait its turn: those of later nodes
-- have come, or none has come for long though there are free slots.
local function is_lost(run, key, due)
  local queue = queue_of(run, row_of(run, (split(key))))
  local progress = call('HMGET', key_of('queue', queue, 'picks'), 'last', 'passed')
  if number_or(progress[2] or nil, 0) > due + is_lost_after() then return true end
  local slots = slots_of(queue)
  local busy = 0
  for _, holder in ipairs(call('ZRANGE', key_of('holders'), 0, -1)) do
    busy = busy + call('ZCARD', key_of('leases', holder))
  end
  if slots > 0 and busy >= slots then return false end
  return number_or(progress[1] or nil, 0) + is_lost_after() <= now
end

-- A node's own message has come: what stood before it in its queue has been taken, too.
local function note_pick(run, key, due)
  local picks = key_of('queue', queue_of(run, row_of(run, (split(key)))), 'picks')
  call('HSET', picks, 'last', now, 'passed', math.max(due, number_or(call('HGET', picks, 'passed') or nil, 0)))
  call('PEXPIRE', picks, 86400000)
end

-- A canvas that was made but not started: its first message has come now, and the others must be on their way.
local function start_held(run)
  if not run.canvas or run.status ~= 'pending' then return false end
  local held = call('ZRANGEBYSCORE', run.base .. ':due', '+inf', '+inf')
  if #held == 0 then return false end
  for _, key in ipairs(held) do expect(run, key, 0) end
  for _, key in ipairs({run.base, run.base .. ':due', run.base .. ':events', key_of('plan', run.plan)}) do
    call('PERSIST', key)
  end
  call('HINCRBY', key_of('plan', run.plan), 'runs', 1)
  call('SADD', key_of('open'), run.id)
  return true
end

-- Ring for up to so many drains that listen: they are at hand, and need no message. Gives how many there were. The call by
-- which they answer is made before this one's reply is sent; rung twice, they call anew instead.
local function ring(queue, drains, most)
  local idle = key_of('queue', queue, 'idle')
  call('ZREMRANGEBYSCORE', idle, '-inf', now)
  local rung = most > 0 and call('ZPOPMAX', idle, most) or {}
  for position = 1, #rung, 2 do
    local bell = key_of('bell', rung[position])
    call('RPUSH', bell, 1)
    if this.rings_twice then call('RPUSH', bell, 1) end
    call('PEXPIRE', bell, header.wake_ms)
    call('ZADD', drains, now + header.wake_ms, rung[position])
  end
  return #rung / 2
end

-- A drain is one worker slot at work on a queue, or listening. So many wake-ups are due as there are ready nodes and free
-- slots; each is noted as a drain that is about to start, so that nobody sends it again before it is taken for lost.
local function wake_ups()
  push_all()
  local wakes = this.sends
  for queue in pairs(touched) do
    local drains = key_of('queue', queue, 'drains')
    call('ZREMRANGEBYSCORE', drains, '-inf', now)
    local waiting = call('LLEN', key_of('queue', queue, 'process')) + call('LLEN', key_of('queue', queue, 'thread'))
    local rung = ring(queue, drains, waiting)
    local free = math.max(1, slots_of(queue)) - call('ZCARD', drains)
    for number = rung + 1, waiting do
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

return send, is_lost_after, watch, expect, canvas_field, queue_of, slots_of, set_aside, push_all, enqueue, stand_apart,
  release, open_sources, is_lost, note_pick, start_held, wake_ups
