-- Notes that an inspection has no verdict though its takt is over, once, with an event. Any process may ask for it, and
-- ask again: only what still waits for its takt is noted, so there is one event, and none after the verdict.
-- KEYS  inspection, takts, events
-- ARGV  id, event, longest event stream
-- -> recorded, gone (it was noted or has ended before)
local inspection, takts, events = KEYS[1], KEYS[2], KEYS[3]
local id, event, max_events = ARGV[1], ARGV[2], tonumber(ARGV[3])

if redis.call('ZREM', takts, id) == 0 then
  return 'gone'
end
-- A worker of an older version ends an inspection without taking it out of the set.
local state = redis.call('HGET', inspection, 'state')
if state ~= 'queued' and state ~= 'running' then
  return 'gone'
end
redis.call('HSET', inspection, 'overtime', 1)
-- Not under the inspection's id: who waits for its end is not woken.
add_event(events, '', event, max_events)
return 'recorded'
