-- Gives up the leases that this owner holds, so that another process may take them at once. Another owner's stay: this
-- one may have lost its lease meanwhile.
-- KEYS  lease of each sink: the name of its holder
-- ARGV  owner
-- -> nothing
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then
    redis.call('DEL', key)
  end
end
