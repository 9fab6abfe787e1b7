-- One round trip of a worker of the bare executor: store what it has computed, count down, hand out what is next.
--
-- KEYS[1]  the list of ready nodes, each "run plan node"
-- ARGV[1]  how many nodes to hand out at most
-- ARGV[2]  a node that the worker has taken from the list while it waited; or nothing
-- ARGV[3…] for each computed node: itself, and its value as JSON
--
-- Of a plan's hash: c<node> is its call, u<node> the upstreams, d<node> the downstreams, each with how many upstreams
-- that has; 0 stands for the producer, who waits for so many results. Of a run's: v<node> is a value, w<node> a count.
-- Gives lines: for each node handed out itself, its call, and its upstreams' values as JSON.

local PIECE = 4000 -- values that one HMGET asks for: unpack has a limit

for i = 3, #ARGV, 2 do
  local run, plan, node = string.match(ARGV[i], "(%S+) (%S+) (%S+)")
  local value = ARGV[i + 1]
  redis.call("HSET", run, "v" .. node, value)
  for other, count in string.gmatch(redis.call("HGET", plan, "d" .. node), "(%d+):(%d+)") do
    if count == "1" or redis.call("HINCRBY", run, "w" .. other, 1) == tonumber(count) then
      if other == "0" then
        redis.call("RPUSH", "done:" .. plan, run .. "\n" .. value)
      else
        redis.call("RPUSH", KEYS[1], run .. " " .. plan .. " " .. other)
      end
    end
  end
end

local wanted = tonumber(ARGV[1])
if wanted > 1 then -- leave the others their part
  wanted = math.max(1, math.min(wanted, math.ceil(redis.call("LLEN", KEYS[1]) / 2)))
end
local items
if ARGV[2] ~= "" then
  items = { ARGV[2] }
else
  items = redis.call("LPOP", KEYS[1], wanted) or {}
end

local lines = {}
for _, item in ipairs(items) do
  local run, plan, node = string.match(item, "(%S+) (%S+) (%S+)")
  local found = redis.call("HMGET", plan, "c" .. node, "u" .. node)
  local fields, values = {}, {}
  for upstream in string.gmatch(found[2], "%S+") do
    fields[#fields + 1] = "v" .. upstream
  end
  for first = 1, #fields, PIECE do
    local piece = redis.call("HMGET", run, unpack(fields, first, math.min(first + PIECE - 1, #fields)))
    values[#values + 1] = table.concat(piece, ",")
  end
  lines[#lines + 1] = item
  lines[#lines + 1] = found[1]
  lines[#lines + 1] = "[" .. table.concat(values, ",") .. "]"
end
return table.concat(lines, "\n")
