-- Gives up on delivering an event: acknowledges it and leaves a dead letter. Once: a repeated call, after a lost reply,
-- finds the event acknowledged and adds no second letter.
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
