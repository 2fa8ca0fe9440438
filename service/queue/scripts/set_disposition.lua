-- Records what becomes of a part, with an event, and finds its ended images under it.
-- KEYS  dispositions of the part, history, index of the part's serial, images of it that have not ended, events
-- ARGV  disposition (JSON), its value or '', event, longest event stream, time to live ms, inspection prefix,
--       most dispositions kept, most images
-- -> recorded, unknown (no image of the part is kept), no_memory
local list, history, images, unfinished, events = unpack(KEYS)
local disposition, value, event = ARGV[1], ARGV[2], ARGV[3]
local max_events, ttl_ms, inspections = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local most, most_images = tonumber(ARGV[7]), tonumber(ARGV[8])
local MOST_MEMORY_OF_REVIEWS = 0.85

if redis.call('LINDEX', list, -1) == disposition then
  return 'recorded' -- the reply to an earlier, identical call was lost
end
if redis.call('EXISTS', images) == 0 and redis.call('EXISTS', unfinished) == 0 then
  return 'unknown'
end
if memory_is_beyond(MOST_MEMORY_OF_REVIEWS) then
  return 'no_memory'
end
redis.call('RPUSH', list, disposition)
redis.call('LTRIM', list, -most, -1)
redis.call('PEXPIRE', list, ttl_ms)
local rows = redis.call('ZREVRANGE', images, 0, most_images - 1, 'WITHSCORES')
for i = 1, #rows, 2 do
  local id, position = rows[i], rows[i + 1]
  local key = inspections .. id
  if redis.call('EXISTS', key) == 1 then
    local before = redis.call('HGET', key, 'disposition')
    move(before and {history .. ':disposition:' .. before} or {},
      value ~= '' and {history .. ':disposition:' .. value} or {}, position, id, ttl_ms)
    set_or_clear(key, 'disposition', value ~= '' and value or nil)
  end
end
add_event(events, '', event, max_events)
return 'recorded'
