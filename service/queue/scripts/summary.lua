-- The summary of an ended inspection: what statistics need of it, in one short line beside the result, which is a
-- hundred times as costly to read. Put before complete.lua and summaries.lua: summary_of.
-- Fields with tabs between; '' for what is not there. New fields are added at the end: service/queue/summaries.py.

-- entry: of the job in its stream, which tells the order of acceptance; outcome: the verdict, or the state of one without.
local function summary_of(entry, result, outcome)
  local fields = {entry or '', outcome}
  for _, name in ipairs({'serial', 'product', 'view', 'station', 'limit_sample', 'replay_of'}) do
    local value = result[name]
    -- Texts have no control character; of an old version's one may, and would move all that follows.
    fields[#fields + 1] = type(value) == 'string' and value:gsub('%c', ' ') or ''
  end
  return table.concat(fields, '\t')
end
