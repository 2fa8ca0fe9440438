-- Stands before submit.lua and ask.lua: is there room for another job?
-- By count: queued and running together. By time: what lies ahead of it, times the mean time between two completions
-- while the queue was busy (see pace.lua). Before anything was measured, only the count decides.
-- -> {open | full | slow | late, backlog, jobs ahead, mean interval in ms or ''}
local function admission(high, normal, leases, pace, priority, limit, max_wait_ms, deadline_ms)
  local high_jobs = redis.call('XLEN', high)
  local backlog = high_jobs + redis.call('XLEN', normal)
  local ahead = backlog
  if priority == 'high' then
    -- All that is high, the turns of `normal` in between, and whatever runs.
    local in_turn = math.ceil(high_jobs * NORMAL_TURN / (NORMAL_TURN - 1))
    ahead = math.min(backlog, in_turn + redis.call('ZCARD', leases))
  end
  local measured = redis.call('HMGET', pace, 'busy_ms', 'completions')
  local mean = measured[1] and tonumber(measured[1]) / tonumber(measured[2])
  local wait = mean and ahead * mean
  local answer = 'open'
  if backlog >= limit then
    answer = 'full'
  elseif wait and deadline_ms and wait > deadline_ms then
    answer = 'late'
  elseif wait and wait > max_wait_ms then
    answer = 'slow'
  end
  return {answer, backlog, ahead, mean and tostring(mean) or ''}
end
