-- stage: staged offset
-- Put entries of a retry onto a list that only its caller knows, from `offset` on; they go after ten minutes unless `retry`
-- puts them in place. ARGV: header, entries… Replay: those that are there stay. Returns 1 if they are there now.
local length = call('LLEN', header.staged)
if length == header.offset then
  call('RPUSH', header.staged, unpack(args, 2))
  call('PEXPIRE', header.staged, 600000)
  length = length + #args - 1
end
return length == header.offset + #args - 1 and 1 or 0
