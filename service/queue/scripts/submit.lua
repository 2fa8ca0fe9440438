-- Accepts a job, once: a repeated call, or a second one with the same idempotency key, changes nothing.
-- KEYS  inspection, stream, idempotency, then as ask.lua: high, normal, leases, pace; and the set of pools
-- ARGV  id, job, fingerprint, idempotency in use (0/1), then as ask.lua: priority, backlog limit, longest wait ms,
--       deadline ms or ''; and the part's unfinished set or '', the pool
-- -> {outcome, id, backlog, jobs ahead, mean interval in ms or ''}
-- outcome: accepted, same, conflict, or why there is no room: full, slow, late
local inspection, stream, idempotency = KEYS[1], KEYS[2], KEYS[3]
local id, job, fingerprint = ARGV[1], ARGV[2], ARGV[3]
local keyed, priority = ARGV[4] == '1', ARGV[5]

local room = admission(KEYS[4], KEYS[5], KEYS[6], KEYS[7], priority, tonumber(ARGV[6]), tonumber(ARGV[7]),
  tonumber(ARGV[8]))

local function answer(outcome, of)
  return {outcome, of, room[2], room[3], room[4]}
end

-- The reply to an earlier, identical call was lost.
if redis.call('EXISTS', inspection) == 1 then
  return answer('accepted', id)
end

if keyed then
  local first = redis.call('HMGET', idempotency, 'id', 'fingerprint')
  if first[1] then
    return answer(first[2] == fingerprint and 'same' or 'conflict', first[1])
  end
end

if room[1] ~= 'open' then
  return answer(room[1], id)
end

local entry = redis.call('XADD', stream, '*', 'id', id)
redis.call('HSET', inspection, 'job', job, 'state', 'queued', 'priority', priority, 'entry', entry,
  'submitted_ms', now_ms(), 'attempt', 0, 'owner', '')
if keyed then
  redis.call('HSET', idempotency, 'id', id, 'fingerprint', fingerprint)
  redis.call('HSET', inspection, 'idempotency', idempotency)
end
if ARGV[9] ~= '' then
  redis.call('SADD', ARGV[9], id)
end
redis.call('SADD', KEYS[8], ARGV[10])
return {'accepted', id, room[2] + 1, room[3], room[4]}
