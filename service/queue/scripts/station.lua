-- Changes a station, its limit samples or their check in one step with the events that tell of it, if all that the step
-- was made from is still as it was read. What is not in the step is neither compared nor changed.
-- KEYS  station, stations, limit samples, their serials, earlier checks, ended limit samples, events
-- ARGV  the step, as JSON:
--       station
--       read_last (id of its last change, or ''), read_plan, read_check ('' if there was none): what was read
--       change, removed_ms (how long a removed station is remembered)
--       plan, serials (serial, kind, serial, kind ...)
--       check, is_new (the check before it becomes an earlier one)
--       judged (id of an image of a limit sample)
--       events, max_events, most_changes, most_stations, most_checks
-- -> recorded, repeated (an earlier, identical call did it), changed (read again), full (too many stations)
local station, stations, limits, serials, earlier, limit_ended, events = unpack(KEYS)
local step = cjson.decode(ARGV[1])

local last = redis.call('XREVRANGE', station, '+', '-', 'COUNT', 1)[1]
local plan, check = unpack(redis.call('HMGET', limits, 'plan', 'check'))

local function is_done()
  if step.judged then
    return not redis.call('ZSCORE', limit_ended, step.judged)
  end
  return (not step.change or (last and last[2][2] == step.change)) and (not step.plan or plan == step.plan)
    and (not step.check or check == step.check)
end

local function is_as_read(read, now)
  return not read or read == (now or '')
end

if is_done() then
  return 'repeated'
end
if not (is_as_read(step.read_last, last and last[1]) and is_as_read(step.read_plan, plan)
  and is_as_read(step.read_check, check)) then
  return 'changed'
end
if step.change and not step.removed_ms and redis.call('SISMEMBER', stations, step.station) == 0
  and redis.call('SCARD', stations) >= step.most_stations then
  return 'full'
end

if step.change then
  redis.call('XADD', station, 'MAXLEN', '~', step.most_changes, '*', 'change', step.change)
  for _, key in ipairs({station, limits, serials, earlier}) do
    if step.removed_ms then
      redis.call('PEXPIRE', key, step.removed_ms)
    else
      redis.call('PERSIST', key)
    end
  end
  redis.call(step.removed_ms and 'SREM' or 'SADD', stations, step.station)
end
if step.plan then
  redis.call('HSET', limits, 'plan', step.plan)
  redis.call('DEL', serials)
  for i = 1, #step.serials, 2 do
    redis.call('HSET', serials, step.serials[i], step.serials[i + 1])
  end
end
if step.check then
  if step.is_new and check then
    redis.call('LPUSH', earlier, check)
    redis.call('LTRIM', earlier, 0, step.most_checks - 1)
  end
  redis.call('HSET', limits, 'check', step.check)
end
if step.judged then
  redis.call('ZREM', limit_ended, step.judged)
end
for _, event in ipairs(step.events) do
  add_event(events, '', event, step.max_events)
end
return 'recorded'
