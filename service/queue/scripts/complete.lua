-- Ends an inspection: result, event and acknowledgement in one step, by the holder of the claim and once.
-- KEYS  inspection, stream, leases, held, events, dead, pace
-- ARGV  id, owner, attempt, group, state, result, event, time to live ms, longest event stream, reason (dead letter) or ''
-- -> recorded, repeated (this claim recorded it before), stale (another has the job)
local inspection, stream, leases, held, events, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local id, owner, attempt, group = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local state, result, event, ttl_ms, max_events, reason = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]

local fields = redis.call('HMGET', inspection, 'owner', 'attempt', 'state', 'entry', 'idempotency', 'job', 'submitted_ms')
if not holds(fields, owner, attempt) then
  return 'stale'
end
if fields[3] ~= 'running' then
  return 'repeated'
end
redis.call('HSET', inspection, 'state', state, 'result', result)
if state == 'done' then
  note_completion(KEYS[7], fields[7])
end
redis.call('XADD', events, 'MAXLEN', '~', max_events, '*', 'id', id, 'event', event)
if reason ~= '' then
  redis.call('XADD', dead, '*', 'id', id, 'job', fields[6] or '', 'reason', reason)
end
if fields[4] then
  redis.call('XACK', stream, group, fields[4])
  redis.call('XDEL', stream, fields[4])
end
redis.call('ZREM', leases, id)
redis.call('SREM', held, id)
redis.call('PEXPIRE', inspection, ttl_ms)
if fields[5] then
  redis.call('PEXPIRE', fields[5], ttl_ms)
end
return 'recorded'
