-- Ends an inspection: result, event, history and acknowledgement in one step, by the holder of the claim, once.
-- One script: a crash between two of these steps would lose an acknowledged job's result, or show a result whose job
-- runs again. The fence (owner and attempt) comes first: XACK and XDEL themselves do not ask who sends them.
-- KEYS  inspection, stream, leases, held, events, dead, history, pace, served, takts, ended limit samples
-- ARGV  id, owner, attempt, group, state, result, event, time to live ms, longest event stream, reason (dead letter) or
--       '', outcome, most results, inspection prefix, prefix of a part's unfinished inspections; and of a job with a takt
--       result, event and outcome for the case that it is over, and the event that says so: else all ''
-- -> recorded, repeated (this claim recorded it before), stale (another has the job); with _late, if the takt was over
local inspection, stream, leases, held, events, dead, history, pace, served, takts, limit_ended = unpack(KEYS)
local id, owner, attempt, group = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local state, result, event, ttl_ms = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local max_events, reason = tonumber(ARGV[9]), ARGV[10]
local outcome, max_results, prefix, unfinished = ARGV[11], tonumber(ARGV[12]), ARGV[13], ARGV[14]

-- Which products the pool serves: of the last ones, for a worker that starts.
local MOST_SERVED = 100

local function note_served(products, product)
  redis.call('ZADD', products, now_ms(), product)
  redis.call('ZREMRANGEBYRANK', products, 0, -MOST_SERVED - 1)
end

local fields = redis.call('HMGET', inspection, 'owner', 'attempt', 'state', 'entry', 'idempotency', 'job',
  'submitted_ms', 'unfinished', 'places', 'due_ms', 'overtime')
if not holds(fields, owner, attempt) then
  return 'stale'
end
if fields[3] ~= 'running' then
  return fields[11] and 'repeated_late' or 'repeated'
end
-- Redis's clock decides, once: whoever was told that the takt is over never sees the part pass.
local late = ARGV[15] ~= '' and (fields[11] or (fields[10] and now_ms() > tonumber(fields[10])))
if late then
  result, event, outcome = ARGV[15], ARGV[16], ARGV[17]
end
if fields[10] then
  redis.call('ZREM', takts, id)
end
local ended = cjson.decode(result) -- not of the job, which may be unreadable
redis.call('HSET', inspection, 'state', state, 'result', result, 'outcome', outcome)
if state == 'done' then
  note_completion(pace, fields[7])
  note_served(served, ended.product)
end
if late and not fields[11] then
  redis.call('HSET', inspection, 'overtime', 1)
  add_event(events, '', ARGV[18], max_events)
end
add_event(events, id, event, max_events)
if type(ended.limit_sample) == 'string' then
  redis.call('ZADD', limit_ended, now_ms(), id)
end
if reason ~= '' then
  redis.call('XADD', dead, '*', 'id', id, 'job', fields[6] or '', 'reason', reason)
end
if fields[4] then
  redis.call('XACK', stream, group, fields[4])
  redis.call('XDEL', stream, fields[4])
end
redis.call('ZREM', leases, id)
redis.call('SREM', held, id)
if fields[9] then
  redis.call('SREM', fields[9], id)
  redis.call('HDEL', inspection, 'places')
end
redis.call('PEXPIRE', inspection, ttl_ms)
if fields[5] then
  redis.call('PEXPIRE', fields[5], ttl_ms)
end
if type(ended.serial) ~= 'string' and fields[8] then
  -- Of a job that nobody can read only this says whose image it was: without it the part would pass, or never end.
  ended.serial = fields[8]:sub(#unfinished + 1)
end
if type(ended.serial) == 'string' then
  redis.call('SREM', unfinished .. ended.serial, id)
end
redis.call('HSET', inspection, 'summary', summary_of(fields[4] or fields[7], ended, outcome))
add_to_history(history, id, ended, outcome, ttl_ms)
update_reviewed(history, inspection, id, tonumber(ttl_ms))
if type(ended.replay_of) == 'string' then
  settle(history, prefix .. ended.replay_of, ended.replay_of)
end
if type(ended.serial) == 'string' then
  note_disposition(history, inspection, id, ended.serial, tonumber(ttl_ms))
end
forget_oldest(history, prefix, max_results)
return late and 'recorded_late' or 'recorded'
