-- Adds an operator's review to an ended inspection, once, with an event. The last review counts.
-- KEYS  inspection, events
-- ARGV  id, review, event, longest event stream, most reviews of one inspection, most bytes of them
-- -> recorded, unknown, unfinished, full, no_memory
local inspection, events = KEYS[1], KEYS[2]
local id, review, event = ARGV[1], ARGV[2], ARGV[3]
local max_events, most, most_bytes = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
-- Beyond this share of maxmemory there is room for images alone.
local MOST_MEMORY_OF_REVIEWS = 0.85

local fields = redis.call('HMGET', inspection, 'state', 'result', 'reviews')
if not fields[1] then
  return 'unknown'
end
if not fields[2] then
  return 'unfinished'
end
local reviews = fields[3] or ''
-- The reply to an earlier, identical call was lost: it carries the same time.
if ('\n' .. reviews):find('\n' .. review .. '\n', 1, true) then
  return 'recorded'
end
if select(2, reviews:gsub('\n', '')) >= most or #reviews + #review > most_bytes then
  return 'full'
end
if memory_is_beyond(MOST_MEMORY_OF_REVIEWS) then
  return 'no_memory'
end
redis.call('HSET', inspection, 'reviews', reviews .. review .. '\n')
add_event(events, id, event, max_events)
return 'recorded'
