-- Reads the summaries of ended inspections, in the order in which they ended. It changes nothing.
-- KEYS  history
-- ARGV  lowest position, highest position, most of them, inspection prefix, prefix of a part's unfinished inspections
-- -> number of ids looked at, the last position, lines: position, id, reviews (\30 between), then the summary, by tabs
local rows = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], ARGV[2], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local prefix, unfinished = ARGV[4], ARGV[5]
local lines = {}

-- Of an inspection that ended before there were summaries.
local function late_summary(key)
  local f = redis.call('HMGET', key, 'entry', 'submitted_ms', 'result', 'outcome', 'state', 'unfinished')
  if not f[3] then
    return nil
  end
  local result = cjson.decode(f[3])
  if type(result.serial) ~= 'string' and f[6] then
    result.serial = f[6]:sub(#unfinished + 1)
  end
  local verdict = type(result.verdict) == 'string' and result.verdict or nil
  return summary_of(f[1] or f[2], result, f[4] or verdict or f[5])
end

for i = 1, #rows, 2 do
  local key = prefix .. rows[i]
  local f = redis.call('HMGET', key, 'summary', 'reviews')
  local summary = f[1] or late_summary(key) -- nil: no longer kept
  if summary then
    local reviews = f[2] and f[2]:gsub('\n', '\30') or ''
    lines[#lines + 1] = table.concat({rows[i + 1], rows[i], reviews, summary}, '\t')
  end
end
return {#rows / 2, rows[#rows] or '', table.concat(lines, '\n')}
