-- forget: run
-- Delete all that is kept of an ended run. Returns its status (an open run is left alone), or false if there is none.
local run = run_of(header.run)
if not run then return false end
if not is_open(run) then
  for _, suffix in ipairs({'', ':nodes', ':values', ':failures', ':events', ':todo', ':due', ':aside'}) do call('UNLINK', run.base .. suffix) end
  call('UNLINK', key_of('values', run.id))
end
return run.status
