-- What a call changes of records, values, counters, events and leases is written when it ends (or another step of it is
-- to find it in Redis), all of a kind in one command: most of what a node costs is the number of commands.
local PAIRS = 500      -- of a command
local EVENTS = 10000   -- entries that are kept of a run, about; one tells of all that a call did

local function write(run, key, record) run.records[key], run.changed[key] = record, true end

local function keep(run, key, value)
  local outputs = run.outputs
  outputs[#outputs + 1] = key
  outputs[#outputs + 1] = value
  run.given[key] = value
end

local function count(run, name, by) run.counts[name] = (run.counts[name] or 0) + by end

-- A field of the run's head.
local function set(run, name, value) run.head[name] = value end

-- Who did it is said once, as long as it is the same.
local function tell(run, line, worker)
  local told = run.told
  told[#told + 1] = (worker ~= run.teller or #told == 0) and line .. ' ' .. worker or line
  run.teller = worker
end

local function announce(run, key, record)
  if not record.told then record.told = ' ' .. record.status .. ' ' .. digits(record.attempt) end
  tell(run, key .. record.told, record.worker)
end

-- The caller holds a claim from now on; and no longer.
local function take_hold(lease)
  local made = this.made
  made[#made + 1] = now_text
  made[#made + 1] = lease
end

local function let_go(lease) this.ended[#this.ended + 1] = lease end

local function in_pieces(command, key, parts)
  for first = 1, #parts, 2 * PAIRS do call(command, key, unpack(parts, first, math.min(first + 2 * PAIRS - 1, #parts))) end
end

local function text_of(record)
  if type(record) == 'number' then return digits(record) end
  if record.text then return record.text end
  local map, more = record.map, record.more
  if record.left then more = digits(record.left) .. more end
  if map then more = table.concat({map.total, map.opened, map.settled, map.broken or ''}, ',') end
  local text = table.concat({record.status, digits(record.attempt), digits(record.crashes), digits(record.fence),
                             record.started, record.ended, record.worker, more}, '|')
  if not map then record.text = text end -- else its counts may still change
  return text
end

local function put(run)
  local parts, records = {}, run.records
  for key in pairs(run.changed) do
    parts[#parts + 1] = key
    parts[#parts + 1] = text_of(records[key])
  end
  in_pieces('HSET', run.nodes, parts)
  in_pieces('HSET', run.values, run.outputs)
  parts = {}
  for name, value in pairs(run.head) do
    parts[#parts + 1] = name
    parts[#parts + 1] = value
  end
  in_pieces('HSET', run.base, parts)
  if #run.told > 0 then
    call('XADD', run.base .. ':events', 'MAXLEN', '~', EVENTS, '*', 'e', table.concat(run.told, '\n'))
  end
  run.changed, run.outputs, run.head, run.told = {}, {}, {}, {}
end

local function put_all()
  for _, run in pairs(runs) do
    if run then put(run) end
  end
  local held = key_of('leases', header.holder)
  in_pieces('ZREM', held, this.ended)
  in_pieces('ZADD', held, this.made)
  this.made, this.ended = {}, {}
end

return write, keep, count, set, tell, announce, take_hold, let_go, in_pieces, put, put_all
