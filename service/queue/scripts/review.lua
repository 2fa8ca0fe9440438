-- Adds an operator's review to an ended inspection, once, with an event and its place in the indexes.
-- One script: after a crash between two of these steps the image would be given to a second person, or to nobody.
-- KEYS  inspection, events, history, claim
-- ARGV  id, review, event, longest event stream, most reviews of one inspection, most bytes of them, time to live ms,
--       the claim that it answers or '', drawn for a second look (0/1)
-- -> recorded, unknown, unfinished, claim_lost, answered (the claim was, otherwise), full, no_memory
local inspection, events, history, claim_key = unpack(KEYS)
local id, review, event = ARGV[1], ARGV[2], ARGV[3]
local max_events, most, most_bytes = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local ttl_ms, claim, is_drawn = tonumber(ARGV[7]), ARGV[8], ARGV[9] == '1'
-- Beyond this share of maxmemory there is room for images alone.
local MOST_MEMORY_OF_REVIEWS = 0.85

-- What a person said, whenever and however the claim stood by then.
local function said(given)
  local parts = {}
  for _, field in ipairs({'decision', 'defect_code', 'note', 'regions'}) do
    local value = given[field]
    parts[#parts + 1] = (value == nil or value == cjson.null) and '' or cjson.encode(value)
  end
  return table.concat(parts, '\n')
end

-- A claim has one answer. Sent again with a later time, because the reply was lost, it says the same.
local function answer_before(reviews)
  for line in reviews:gmatch('[^\n]+') do
    local given = cjson.decode(line)
    if given.claim == claim and not is_text(given.withdrawn_at) then
      return said(given) == said(cjson.decode(review)) and 'recorded' or 'answered'
    end
  end
end

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
if claim ~= '' then
  local before = answer_before(reviews)
  if before then
    return before
  end
  local held = redis.call('GET', claim_key)
  if not held or held:match('^[^\n]*') ~= claim then
    return 'claim_lost'
  end
end
if select(2, reviews:gsub('\n', '')) >= most or #reviews + #review > most_bytes then
  stop_waiting(history, inspection, id)
  return 'full'
end
if memory_is_beyond(MOST_MEMORY_OF_REVIEWS) then
  return 'no_memory'
end
redis.call('HSET', inspection, 'reviews', reviews .. review .. '\n')
if claim ~= '' then
  redis.call('DEL', claim_key)
end
if is_drawn then
  redis.call('HSET', inspection, 'double_read', '1')
end
local function end_outdated_claim()
  local held = redis.call('GET', claim_key)
  if held and held:match('^[^\n]*\n([^\n]*)') ~= redis.call('HGET', inspection, 'waiting') then
    redis.call('DEL', claim_key)
  end
end

local decision = update_reviewed(history, inspection, id, ttl_ms)
-- Who has the image decides on what it was before: such an answer must not replace this one unseen.
end_outdated_claim()
add_event(events, id, with_decision(event, decision), max_events)
return 'recorded'
