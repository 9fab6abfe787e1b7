-- What every call has: its header, the moment, and what is gathered while it is carried out. The functions of the library
-- outlive a call where the server keeps them (see library.py): `begin` sets anew all that is of one call alone.
-- A header is JSON; `args` is the call's ARGV, header and all.
local call -- redis.call: while a server reads a library, it gives nothing but Lua itself
local prefix, args, header, clock, now, now_text
local BUDGET = 500           -- edges that one call follows: each takes some microseconds
local INLINE = 32            -- inline nodes that one call hands to its caller
local this                   -- what else is of this call alone
local runs, touched, inline, fused, claims

-- Lua takes longer to write a number than for most else: each is written once.
local written
local function digits(number)
  local text = written[number]
  if not text then
    text = string.format('%d', number)
    written[number] = text
  end
  return text
end

local function begin(keys, given)
  call = redis.call
  prefix, args, header = keys[1], given, cjson.decode(given[1])
  clock = call('TIME')
  now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  written = {}
  now_text = digits(now)
  runs, touched, inline = {}, {}, {}
  fused = {}                 -- inline nodes that the caller has run already, after their only upstream
  claims = {}                -- what the reply hands to the caller
  this = {
    budget = BUDGET,
    takes_inline = false,    -- the caller can run inline nodes itself
    is_claiming = false,     -- the reply begins with claims
    rings_twice = false,     -- the caller is not to wait for those who listen
    made = {}, ended = {},   -- leases
    pushed = {},             -- what has become ready, by list
    sends = {},              -- what of a canvas is to be sent
    parsed = {},             -- records, by their texts, which many nodes have in common
  }
end

-- What was sent may be large: it is not to lie here until the next call.
local function done() args, header, runs, inline, fused, claims, this = nil, nil, nil, nil, nil, nil, nil end

local function key_of(what, which, part)
  if part then return prefix .. ':' .. what .. ':' .. which .. ':' .. part end
  return which and prefix .. ':' .. what .. ':' .. which or prefix .. ':' .. what
end

local function number_or(text, other) return tonumber(text) or other end
