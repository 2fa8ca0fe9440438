-- Accepts a job, once: a repeated call, or a second one with the same idempotency key, changes nothing.
-- KEYS  inspection, stream, idempotency, then as estimate.lua: high, normal, leases, pace; and the set of pools, takts
-- ARGV  id, job, fingerprint, idempotency in use (0/1), then as estimate.lua: priority, backlog limit, longest wait ms,
--       deadline ms or '', set of the places of the caller's API key or '', inspection prefix; and the part's
--       unfinished set or '', the pool, when the takt is over in ms or ''
-- -> {decision, backlog, jobs ahead, mean interval in ms or '', time now in ms, id of the inspection that stands}
-- decision: as `admission`, or repeated, conflict
local inspection, stream, idempotency = KEYS[1], KEYS[2], KEYS[3]
local id, job, fingerprint = ARGV[1], ARGV[2], ARGV[3]
local keyed, priority, places = ARGV[4] == '1', ARGV[5], ARGV[9]
local unfinished, pool = ARGV[11], ARGV[12]

local queue = admission(KEYS[4], KEYS[5], KEYS[6], KEYS[7], priority, tonumber(ARGV[6]), tonumber(ARGV[7]),
  tonumber(ARGV[8]), places, ARGV[10])

local function answer(decision, standing_id)
  return {decision, queue[2], queue[3], queue[4], queue[5], standing_id}
end

-- The reply to an earlier, identical call was lost.
if redis.call('EXISTS', inspection) == 1 then
  return answer('admitted', id)
end

if keyed then
  local first = redis.call('HMGET', idempotency, 'id', 'fingerprint')
  if first[1] then
    return answer(first[2] == fingerprint and 'repeated' or 'conflict', first[1])
  end
end

if queue[1] ~= 'admitted' then
  return answer(queue[1], id)
end

local entry = redis.call('XADD', stream, '*', 'id', id)
redis.call('HSET', inspection, 'job', job, 'state', 'queued', 'priority', priority, 'entry', entry,
  'submitted_ms', now_ms(), 'attempt', 0, 'owner', '')
if keyed then
  redis.call('HSET', idempotency, 'id', id, 'fingerprint', fingerprint)
  redis.call('HSET', inspection, 'idempotency', idempotency)
end
if unfinished ~= '' then
  redis.call('SADD', unfinished, id)
  redis.call('HSET', inspection, 'unfinished', unfinished)
end
if places ~= '' then
  redis.call('SADD', places, id)
  redis.call('PEXPIRE', places, 86400000) -- of a key that is no longer used nothing stays
  redis.call('HSET', inspection, 'places', places)
end
if ARGV[13] ~= '' then
  redis.call('ZADD', KEYS[9], ARGV[13], id)
  redis.call('HSET', inspection, 'due_ms', ARGV[13])
end
redis.call('SADD', KEYS[8], pool)
return {'admitted', queue[2] + 1, queue[3], queue[4], queue[5], id}
