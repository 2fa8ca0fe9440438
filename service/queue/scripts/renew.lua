-- Prolongs leases. A lease that has ended is prolonged too, if no other worker took the job over. The fence (owner and
-- attempt) keeps a worker that slept from renewing a job that another one has by now.
-- KEYS  leases, workers
-- ARGV  inspection prefix, owner, lease ms, then id, attempt of each claim
-- -> ids that this worker has lost
local leases, workers = KEYS[1], KEYS[2]
local prefix, owner, lease_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now = now_ms()
local lost = {}
for i = 4, #ARGV, 2 do
  local fields = redis.call('HMGET', prefix .. ARGV[i], 'owner', 'attempt', 'state')
  if holds(fields, owner, ARGV[i + 1]) and fields[3] == 'running' then
    redis.call('ZADD', leases, now + lease_ms, ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
redis.call('ZADD', workers, now, owner)
return lost
