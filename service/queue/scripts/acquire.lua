-- Takes or prolongs the leases that no other process holds. One script: between a GET and a SET by a client another
-- process could take the lease, and two would deliver.
-- KEYS  lease of each sink: the name of its holder; expires
-- ARGV  owner, lease ms
-- -> for each key 1 (this owner holds it now) or 0 (another does)
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
