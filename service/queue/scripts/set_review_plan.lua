-- Puts a product's review plan into force; those before it are kept.
-- KEYS  plans of the product
-- ARGV  plan (JSON without its revision), most plans kept
-- -> the plan's revision
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local revision = 1
if last then
  if last[2][4] == ARGV[1] then
    return tonumber(last[2][2]) -- the reply to an earlier, identical call was lost
  end
  revision = tonumber(last[2][2]) + 1
end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'revision', revision, 'plan', ARGV[1])
return revision
