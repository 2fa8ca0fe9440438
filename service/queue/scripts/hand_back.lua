-- Gives a job back unfinished, at a drain or to be tried later. This counts for nothing: no death is added, a suspect
-- stays a suspect. The job's entry stays in its stream, so the backlog remains right; the `returned` set gives the job
-- out again, before the stream's new entries.
-- KEYS  inspection, leases, held, returned, suspects, wake
-- ARGV  id, owner, attempt, delay ms
-- -> 1, or 0 if the job is no longer this worker's
local inspection, leases, held, returned, suspects, wake = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local id, owner, attempt, delay_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local fields = redis.call('HMGET', inspection, 'owner', 'attempt', 'state', 'alone')
if not holds(fields, owner, attempt) or fields[3] ~= 'running' then
  return 0
end
redis.call('HSET', inspection, 'state', 'queued', 'owner', '')
redis.call('ZREM', leases, id)
redis.call('SREM', held, id)
redis.call('ZADD', fields[4] == '1' and suspects or returned, now_ms() + delay_ms, id)
redis.call('XADD', wake, 'MAXLEN', 1, '*', 'id', id)
return 1
