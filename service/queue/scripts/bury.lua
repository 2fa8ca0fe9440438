-- Gives up on delivering an event: acknowledged and left as a dead letter, once.
-- KEYS  events, retries, dead letters
-- ARGV  group, sink, event's id, event, reason, attempts, most dead letters
-- -> 1, or 0 (it was no longer pending)
local events, retries, dead = unpack(KEYS)
local group, sink, id, event, reason, attempts, most = unpack(ARGV)
redis.call('HDEL', retries, id)
if redis.call('XACK', events, group, id) == 0 then
  return 0
end
redis.call('XADD', dead, 'MAXLEN', '~', most, '*',
  'sink', sink, 'id', id, 'event', event, 'reason', reason, 'attempts', attempts)
return 1
