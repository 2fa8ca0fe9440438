-- Puts a product's review plan into force; those before it are kept.
-- KEYS  plans of the product
-- ARGV  plan (JSON without its revision), most plans kept, revisions that it may replace, each in spaces, or '' for any
-- -> the plan's revision, or nothing: another one is in force
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local revision, replaced = 1, ARGV[3]
if last then
  if last[2][4] == ARGV[1] then
    return tonumber(last[2][2]) -- the reply to an earlier, identical call was lost
  end
  revision = tonumber(last[2][2]) + 1
end
if replaced ~= '' and not replaced:find(' ' .. (revision - 1) .. ' ', 1, true) then
  return nil
end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'revision', revision, 'plan', ARGV[1])
return revision
