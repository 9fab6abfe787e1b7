-- define: plan
-- Store a piece of a plan, or of a canvas of it. ARGV: header, field, value, … The last piece brings the field by which
-- submit knows that it is all there. A plan goes after an hour unless a run uses it. Replay: the same is stored again.
local plan = key_of('plan', header.plan)
for first = 2, #args, 1000 do call('HSET', plan, unpack(args, first, math.min(first + 999, #args))) end
local runs, kept = unpack(call('HMGET', plan, 'runs', 'kept'))
if number_or(runs or nil, 0) <= 0 then
  call('PEXPIREAT', plan, math.max(now + 3600000, number_or(kept or nil, 0)))
end
return true
