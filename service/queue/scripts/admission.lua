-- Stands before submit.lua and estimate.lua: may another job join the queue?
-- By count: queued and running together. By time: what lies ahead of it, times the mean time between two completions
-- while the queue was busy (see pace.lua). Before anything was measured, only the count decides.
-- By share: an API key holds at most nine times as many places as are free, so that the images of one key, or of some,
-- never take the last ones. `places`: the set of the ids that hold the key's places, or ''.
-- -> {decision, backlog, jobs ahead, mean interval in ms or '', time now in ms}
-- decision, a word of service.queue.admission.Admission: admitted, backlog_full, share_full, deadline, wait_too_long
local MOST_PER_FREE_PLACE = 9
local LOOKED_AT = 100

-- Takes out of the set what has ended, of some ids at random: workers of an older version leave it there.
-- -> how many
local function forget_ended(places, inspections)
  local ended = 0
  for _, id in ipairs(redis.call('SRANDMEMBER', places, LOOKED_AT)) do
    local state = redis.call('HGET', inspections .. id, 'state')
    if state ~= 'queued' and state ~= 'running' then
      ended = ended + redis.call('SREM', places, id)
    end
  end
  return ended
end

-- Each round but the last takes something out, so that looking costs no more than was put in.
local function has_share(places, inspections, free)
  local most = MOST_PER_FREE_PLACE * free
  while redis.call('SCARD', places) >= most do
    if forget_ended(places, inspections) == 0 then
      return false
    end
  end
  return true
end

local function admission(high, normal, leases, pace, priority, limit, max_wait_ms, deadline_ms, places, inspections)
  local high_jobs = redis.call('XLEN', high)
  local normal_jobs = redis.call('XLEN', normal)
  local backlog = high_jobs + normal_jobs
  -- All of the same priority, the turns of the other one in between, and whatever runs. So a flood of `high` makes no
  -- image of `normal` seem late that has its turn soon.
  local in_turn = normal_jobs * NORMAL_TURN + NORMAL_TURN - 1
  if priority == 'high' then
    in_turn = math.ceil(high_jobs * NORMAL_TURN / (NORMAL_TURN - 1))
  end
  local ahead = math.min(backlog, in_turn + redis.call('ZCARD', leases))
  local measured = redis.call('HMGET', pace, 'busy_ms', 'completions')
  local mean = measured[1] and tonumber(measured[1]) / tonumber(measured[2])
  local wait = mean and ahead * mean
  local free = limit - backlog
  if mean and mean > 0 then
    free = math.min(free, math.floor(max_wait_ms / mean) - ahead + 1) -- of those done within the longest wait
  end
  local decision = 'admitted'
  if backlog >= limit then
    decision = 'backlog_full'
  elseif wait and deadline_ms and wait > deadline_ms then
    decision = 'deadline'
  elseif wait and wait > max_wait_ms then
    decision = 'wait_too_long'
  elseif places ~= '' and not has_share(places, inspections, free) then
    decision = 'share_full'
  end
  return {decision, backlog, ahead, mean and tostring(mean) or '', now_ms()}
end
