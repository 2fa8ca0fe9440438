-- Accepts a job, once: a repeated call, or a second one with the same idempotency key, changes nothing.
-- KEYS  inspection, stream, idempotency, then all streams that count as backlog
-- ARGV  id, job, fingerprint, idempotency in use (0/1), backlog limit, priority, the part's unfinished set or ''
-- -> {outcome, id, backlog}; outcome: accepted, same, conflict, full
local inspection, stream, idempotency = KEYS[1], KEYS[2], KEYS[3]
local id, job, fingerprint = ARGV[1], ARGV[2], ARGV[3]
local keyed, limit, priority = ARGV[4] == '1', tonumber(ARGV[5]), ARGV[6]

local backlog = 0
for i = 4, #KEYS do
  backlog = backlog + redis.call('XLEN', KEYS[i])
end

-- The reply to an earlier, identical call was lost.
if redis.call('EXISTS', inspection) == 1 then
  return {'accepted', id, backlog}
end

if keyed then
  local first = redis.call('HMGET', idempotency, 'id', 'fingerprint')
  if first[1] then
    return {first[2] == fingerprint and 'same' or 'conflict', first[1], backlog}
  end
end

if backlog >= limit then
  return {'full', id, backlog}
end

local entry = redis.call('XADD', stream, '*', 'id', id)
redis.call('HSET', inspection, 'job', job, 'state', 'queued', 'priority', priority, 'entry', entry,
  'submitted_ms', now_ms(), 'attempt', 0, 'owner', '')
if keyed then
  redis.call('HSET', idempotency, 'id', id, 'fingerprint', fingerprint)
  redis.call('HSET', inspection, 'idempotency', idempotency)
end
if ARGV[7] ~= '' then
  redis.call('SADD', ARGV[7], id)
end
return {'accepted', id, backlog + 1}
