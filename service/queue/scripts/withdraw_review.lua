-- Withdraws one review of an inspection, which stays as a record; the image is open again if no other review counts.
-- KEYS  inspection, events, history
-- ARGV  id, number of the review (from 1), when it was recorded, what its JSON gains, event, longest event stream,
--       time to live ms
-- -> recorded, unknown, changed (the review is not the one that was read)
local inspection, events, history = unpack(KEYS)
local id, number, at, gained = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local event, max_events, ttl_ms = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])

local reviews = redis.call('HGET', inspection, 'reviews')
if not reviews then
  return 'unknown'
end
local lines = {}
for line in reviews:gmatch('[^\n]+') do
  lines[#lines + 1] = line
end
local line = lines[number]
-- The text is not encoded anew: cjson would write an empty list as an object.
local changed = line and line:sub(1, -2) .. gained
if line and line:sub(-#gained) == gained then
  return 'recorded' -- the reply to an earlier, identical call was lost
end
local review = line and cjson.decode(line)
-- To the millisecond: the same moment may be written with more digits, or with +00:00.
if not review or review.at:sub(1, 23) ~= at:sub(1, 23) or is_text(review.withdrawn_at) then
  return 'changed'
end
lines[number] = changed
redis.call('HSET', inspection, 'reviews', table.concat(lines, '\n') .. '\n')
local decision = update_reviewed(history, inspection, id, ttl_ms)
add_event(events, id, with_decision(event, decision), max_events)
return 'recorded'
