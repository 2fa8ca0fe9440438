-- Takes, or keeps, what nobody else holds.
-- KEYS  holders
-- ARGV  owner, lease ms
-- -> for each key 1 (the owner holds it) or 0
local held = {}
for i, key in ipairs(KEYS) do
  local holder = redis.call('GET', key)
  if not holder or holder == ARGV[1] then
    redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
    held[i] = 1
  else
    held[i] = 0
  end
end
return held
