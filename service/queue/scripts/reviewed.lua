-- Which images wait for a review, and which have one. Put before history.lua: add_to_index, update_reviewed,
-- stop_waiting, forget_reviewed.
-- An image waits for one kind of look at a time, which follows from its result and its reviews alone:
--   audit        it was drawn at random, and nobody has judged it blind yet, whatever the service found
--   disputed     who looked blind after another person disagrees, and nobody has decided since
--   fail, review the service found this, and nobody has judged it
--   no_result    the inspection failed or expired, nobody has judged it, and its image can be looked at
--   double_read  it was judged, drawn for a second look, and nobody has had that yet
-- Indexes hold positions of the history, so that what waits longest is found first, and go with their inspections.

-- Adds one inspection. What is too old leaves each index that grows; an index that does not grow expires as a whole.
local function add_to_index(key, position, id, ttl_ms)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('(%.0f', (now_ms() - ttl_ms) * 1024))
  redis.call('ZADD', key, string.format('%.0f', position), id)
  redis.call('PEXPIRE', key, ttl_ms)
end

local VERDICTS = {pass = true, review = true, fail = true}

local function is_text(value)
  return type(value) == 'string' -- cjson.null is no false
end

local LOST_IMAGES = {image_unavailable = true, image_undecodable = true}

-- -> what an image without a verdict waits as, before anybody has judged it, or nil: there is nothing to look at
local function unjudged_kind(result, is_settled)
  local code = type(result.error) == 'table' and result.error.code
  return is_text(result.image_sha256) and not LOST_IMAGES[code] and not is_settled and 'no_result' or nil
end

-- The keys of what waits: of all, of the product, of the station, and of both.
local function waiting_keys(history, kind, result)
  local key = history:match('^(.*:)') .. 'waiting:' .. kind
  local found = {key}
  if is_text(result.product) then
    found[#found + 1] = key .. ':product:' .. result.product
  end
  if is_text(result.station) then
    found[#found + 1] = key .. ':station:' .. result.station
  end
  if is_text(result.product) and is_text(result.station) then
    found[#found + 1] = key .. ':product:' .. result.product .. ':station:' .. result.station
  end
  return found
end

-- -> the review that counts or nil; what people decided: ok, defect, disputed, or nil
-- As glad_client/decisions.py: a blind look after another person's decision measures it, and does not replace it.
local function counted_review(reviews)
  local first, is_disputed = nil, false
  for _, review in ipairs(reviews) do
    if review.blind == true and first and first.by ~= review.by then
      is_disputed = is_disputed or first.decision ~= review.decision
    else
      first, is_disputed = review, false
    end
  end
  if is_disputed then
    return nil, 'disputed'
  end
  return first, first and first.decision
end

-- -> what is known of an inspection's reviews: kind, the look that it waits for or nil; counting, the review that counts
-- or nil; decision, as above; readers, who has judged it, one a line
local function review_state(result, outcome, text, wants_double_read, is_settled)
  local reviews, audited, read_twice, readers = {}, false, false, '\n'
  for line in text:gmatch('[^\n]+') do
    local review = cjson.decode(line)
    if not is_text(review.withdrawn_at) then
      read_twice = read_twice or review.double_read == true or (review.blind == true and #reviews > 0)
      reviews[#reviews + 1] = review
      readers = readers .. (is_text(review.by) and review.by or '') .. '\n'
      audited = audited or type(review.audit) == 'number'
    end
  end
  local counting, decision = counted_review(reviews)
  local kind
  if is_text(result.limit_sample) then
    kind = nil -- a part that stands for a station's check, not for production
  elseif VERDICTS[outcome] and type(result.audit) == 'number' and not audited then
    kind = 'audit'
  elseif decision == 'disputed' then
    kind = 'disputed'
  elseif not counting then
    kind = (outcome == 'fail' or outcome == 'review') and outcome or nil
    if not VERDICTS[outcome] then
      kind = unjudged_kind(result, is_settled)
    end
  elseif wants_double_read and not read_twice then
    kind = 'double_read'
  end
  return {kind = kind, counting = counting, decision = decision, readers = readers}
end

-- An event of a review says what people have decided all in all: only here the order of two reviews is known.
local function with_decision(event, decision)
  return decision and event:sub(1, -2) .. ',"decision":"' .. decision .. '"}' or event
end

local function set_or_clear(inspection, field, value)
  if value then
    redis.call('HSET', inspection, field, value)
  else
    redis.call('HDEL', inspection, field)
  end
end

local function move(keys_before, keys_after, position, id, ttl_ms)
  for _, key in ipairs(keys_before) do
    redis.call('ZREM', key, id)
  end
  for _, key in ipairs(keys_after) do
    add_to_index(key, position, id, ttl_ms)
  end
end

-- Brings the indexes and the inspection's bookkeeping in line with its reviews; returns what people have decided.
local function update_reviewed(history, inspection, id, ttl_ms)
  local f = redis.call('HMGET', inspection, 'result', 'outcome', 'reviews', 'double_read', 'waiting', 'defect_code',
    'settled')
  local result, reviews = cjson.decode(f[1]), f[3] or ''
  local state = review_state(result, f[2], reviews, f[4], f[7])
  local kind, counting = state.kind, state.counting
  local position = redis.call('ZSCORE', history, id)
  if not position then
    return state.decision -- older than the history, or no longer in it
  end
  if f[5] ~= (kind or false) then
    move(f[5] and waiting_keys(history, f[5], result) or {}, kind and waiting_keys(history, kind, result) or {},
      position, id, ttl_ms)
    set_or_clear(inspection, 'waiting', kind)
  end
  if reviews == '' then
    return nil
  end
  redis.call('HSET', inspection, 'readers', state.readers)
  add_to_index(history .. ':reviews:any', position, id, ttl_ms)
  local code = counting and is_text(counting.defect_code) and counting.defect_code or nil
  move(f[6] and {history .. ':defect_code:' .. f[6]} or {}, code and {history .. ':defect_code:' .. code} or {},
    position, id, ttl_ms)
  set_or_clear(inspection, 'defect_code', code)
  move({history .. ':reviewed:true'}, counting and {history .. ':reviewed:true'} or {}, position, id, ttl_ms)
  return state.decision
end

-- An image that takes no further review waits for none: else it would be given to one person after the other.
local function stop_waiting(history, inspection, id)
  local f = redis.call('HMGET', inspection, 'waiting', 'result')
  if f[1] then
    move(waiting_keys(history, f[1], cjson.decode(f[2])), {}, nil, id)
    set_or_clear(inspection, 'waiting', nil)
  end
end

-- An image without a verdict waits no longer: it is inspected again, or is no longer stored.
local function settle(history, inspection, id)
  if redis.call('EXISTS', inspection) == 1 then
    redis.call('HSET', inspection, 'settled', '1')
    if redis.call('HGET', inspection, 'waiting') == 'no_result' then
      stop_waiting(history, inspection, id)
    end
  end
end

-- A new image of a part that has a disposition is found under it too.
local function note_disposition(history, inspection, id, serial, ttl_ms)
  local list = history:match('^(.*:)') .. 'disposition:' .. serial
  local last = redis.call('LINDEX', list, -1)
  if not last then
    return
  end
  redis.call('PEXPIRE', list, ttl_ms)
  local disposition = cjson.decode(last).disposition
  if is_text(disposition) then
    redis.call('HSET', inspection, 'disposition', disposition)
    add_to_index(history .. ':disposition:' .. disposition, redis.call('ZSCORE', history, id), id, ttl_ms)
  end
end

-- Takes an inspection that is let go out of every index of this file.
local function forget_reviewed(history, inspection, id, result)
  local f = redis.call('HMGET', inspection, 'waiting', 'defect_code', 'disposition', 'readers')
  if f[1] then
    move(waiting_keys(history, f[1], result), {}, nil, id)
  end
  if f[2] then
    redis.call('ZREM', history .. ':defect_code:' .. f[2], id)
  end
  if f[3] then
    redis.call('ZREM', history .. ':disposition:' .. f[3], id)
  end
  if f[4] then
    move({history .. ':reviews:any', history .. ':reviewed:true'}, {}, nil, id)
  end
end
