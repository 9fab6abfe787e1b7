-- What every script begins with: the call as it was made, the moment, and what is gathered while it is carried out.
-- KEYS[1] is the prefix of all keys, ARGV[1] a JSON header.
local prefix, header = KEYS[1], cjson.decode(ARGV[1])
local call, format = redis.call, string.format
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Lua takes longer to write a number than for most else: each is written once.
local written = {}
local function digits(number)
  local text = written[number]
  if not text then
    text = format('%d', number)
    written[number] = text
  end
  return text
end
local now_text = digits(now)

local BUDGET = 500           -- edges that one call follows: each takes some microseconds
local INLINE = 32            -- inline nodes that one call hands to its caller
local this = {
  budget = BUDGET,
  takes_inline = false,      -- the caller can run inline nodes itself
  is_claiming = false,       -- the reply begins with claims
}
local runs, rows, touched, inline = {}, {}, {}, {}
local fused = {}             -- inline nodes that the caller has run already, after their only upstream

local function key_of(what, which, part)
  if part then return prefix .. ':' .. what .. ':' .. which .. ':' .. part end
  return which and prefix .. ':' .. what .. ':' .. which or prefix .. ':' .. what
end

local function number_or(text, other) return tonumber(text) or other end

return header, call, format, clock, now, digits, now_text, BUDGET, INLINE, this, runs, rows, touched, inline, fused,
  key_of, number_or
