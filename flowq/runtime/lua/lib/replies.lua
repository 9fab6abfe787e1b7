-- A call whose reply was lost is repeated by the client, word for word, and gives the same again. Each thread that calls
-- numbers its calls ("<caller>.<number>"), so that one key for each is enough. A number below the last one is a repetition
-- that comes too late: nobody reads its reply, and nothing is done for it.
local KEPT_MS = 60000 -- longer than a client goes on trying

-- What is kept of a reply: of its claims, by which they are found again.
local function brief(reply)
  if not this.is_claiming then return reply end
  local kept, brief_of = {unpack(reply)}, {}
  for first = 1, #claims, FIELDS do
    local at = #brief_of
    brief_of[at + 1], brief_of[at + 2], brief_of[at + 3] = claims[first], claims[first + 1], claims[first + 4]
  end
  kept[1] = brief_of
  return kept
end

-- Give claims again, as far as they are still valid.
local function hand_again(reply)
  local given, run = reply[1], nil
  for first = 1, #given, 3 do
    if given[first] ~= 1 then run = run_of(given[first]) end -- else it is that of the claim before
    local key = given[first + 1]
    local record = is_live(run) and record_of(run, key)
    if holds(record, given[first + 2]) then hand(run, key, record) end
  end
  reply[1] = claims
  return reply
end

local function answered(answer)
  tidy()
  local caller, number = string.match(header.call, '^(.*)%.(%d+)$')
  local key = key_of('said', caller)
  local last, is_claims, kept = string.match(call('GET', key) or '', '^(%d+) ([01])(.*)$')
  if last == number then
    local reply = cmsgpack.unpack(kept)
    if is_claims == '1' then hand_again(reply) end
    put_all()
    return reply
  end
  if last and tonumber(last) > tonumber(number) then return false end
  local reply = answer()
  put_all()
  call('SET', key, number .. ' ' .. (this.is_claiming and 1 or 0) .. cmsgpack.pack(brief(reply)), 'PX', KEPT_MS)
  return reply
end

return answered
