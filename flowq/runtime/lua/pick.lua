-- pick: worker run key
-- Claim one node by its name, as its own message asks. Returns {claims, messages, status, ms to wait, 1 if its run was
-- held, 1 if this starts it}: the node's status if it is not ready ('gone': no such node or run), and how long to wait if
-- it is to be tried again later.
local run = string.match(header.run, '^[%w_.-]+$') and run_of(header.run)

-- As flowq writes it, and not "0." or "0.01", which would be a node of its own.
local function is_key(key)
  local item = string.match(key, '^%d+%.(%d+)$')
  return string.match(key, '^%d+$') or (item and (item == '0' or string.match(item, '^[1-9]')))
end

this.is_claiming = true
local record = run and is_key(header.key) and record_of(run, header.key)
if not record then return {claims, {}, 'gone', 0, 0, 0} end
local held = run.held and 1 or 0
if run.reopening then return {claims, {}, 'gone', 0, held, 0} end
if not is_open(run) then return {claims, {}, FINAL[record.status] and record.status or run.status, 0, held, 0} end
local starts = start_held(run) and 1 or 0
local due = tonumber(call('ZSCORE', run.base .. ':due', header.key) or '+inf')
if record.status == 'pending' and record.attempt > 0 then
  local wait = due - now - is_lost_after()
  if wait > 0 then return {claims, {}, 'pending', wait < 1e12 and wait or 0, held, starts} end
  record = turned(record, 'ready', 0)
  write(run, header.key, record)
end
if run.paused and record.status == 'ready' then
  set_aside(run, header.key)
  return {claims, {}, 'paused', 0, held, starts}
end
local is_first = record.attempt == 0
claim(run, header.key)
if #claims > 0 then
  note_pick(run, header.key, is_first and due < math.huge and due or 0)
end
return {claims, wake_ups(), #claims > 0 and 'running' or record.status, 0, held, starts}
