-- Takes over jobs whose lease has ended: their worker died or hangs. Each becomes a suspect, to be tried alone: of a
-- batch that died together, any job may be the cause, and only a death while alone proves it. A job with too many of
-- those deaths is leased to the caller (the reaper), which fails it through complete.lua as a worker would. If the
-- reaper dies in between, this lease ends too, and the next reaper goes on.
-- KEYS  leases, suspects, wake, workers
-- ARGV  inspection prefix, held prefix, reaper, lease ms, most deaths, at most this many jobs
-- -> {{suspect id...}, {id, job, attempt, submitted, started, deaths, priority, now, alone} ...}
local leases, suspects, wake, workers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local prefix, held_prefix, reaper = ARGV[1], ARGV[2], ARGV[3]
local lease_ms, max_deaths, most = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local now = now_ms()

-- While Redis was down no worker could renew: give living ones the time of a lease before they count as dead.
local function just_started()
  local info = redis.pcall('INFO', 'server')
  local uptime = type(info) == 'string' and info:match('uptime_in_seconds:(%d+)')
  return uptime and tonumber(uptime) * 1000 < lease_ms
end

local suspected, exhausted = {}, {}
if just_started() then
  return {suspected}
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, most)) do
  local key = prefix .. id
  local f = redis.call('HMGET', key, 'owner', 'alone', 'state', 'job', 'submitted_ms', 'started_ms', 'priority')
  redis.call('ZREM', leases, id)
  if f[1] then
    redis.call('SREM', held_prefix .. f[1], id)
  end
  if f[3] == 'running' then
    local deaths = redis.call('HINCRBY', key, 'deaths', f[2] == '1' and 1 or 0)
    if deaths >= max_deaths then
      local attempt = redis.call('HINCRBY', key, 'attempt', 1)
      redis.call('HSET', key, 'owner', reaper, 'alone', 0) -- the reaper's own death is not the job's
      redis.call('ZADD', leases, now + lease_ms, id)
      exhausted[#exhausted + 1] = {id, f[4], tostring(attempt), f[5] or tostring(now), f[6] or tostring(now),
        tostring(deaths), f[7], tostring(now), '1'}
    else
      redis.call('HSET', key, 'state', 'queued', 'owner', '', 'suspect', 1)
      redis.call('ZADD', suspects, now, id)
      suspected[#suspected + 1] = id
    end
  end
end
if #suspected > 0 then
  redis.call('XADD', wake, 'MAXLEN', 1, '*', 'id', suspected[1])
end
-- Forget workers that have been silent for a day.
redis.call('ZREMRANGEBYSCORE', workers, '-inf', now - 86400000)
return {suspected, unpack(exhausted)}
