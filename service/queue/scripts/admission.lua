-- Stands before submit.lua and estimate.lua: may another job join the queue?
-- By count: queued and running together. By time: what lies ahead of it, times the mean time between two completions
-- while the queue was busy (see pace.lua). Before anything was measured, only the count decides.
-- -> {decision, backlog, jobs ahead, mean interval in ms or '', time now in ms}
-- decision, a word of service.queue.admission.Admission: admitted, backlog_full, deadline, wait_too_long
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
  local decision = 'admitted'
  if backlog >= limit then
    decision = 'backlog_full'
  elseif wait and deadline_ms and wait > deadline_ms then
    decision = 'deadline'
  elseif wait and wait > max_wait_ms then
    decision = 'wait_too_long'
  end
  return {decision, backlog, ahead, mean and tostring(mean) or '', now_ms()}
end
