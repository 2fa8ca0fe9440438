-- Functions of the event stream, put before the scripts that add to it: add_event.

local function stream_id(text)
  local ms, seq = text:match('^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

local function is_before(a, b)
  local a_ms, a_seq = stream_id(a)
  local b_ms, b_seq = stream_id(b)
  return a_ms < b_ms or (a_ms == b_ms and a_seq < b_seq)
end

-- The first entry that some consumer group still needs; nil without groups.
local function slowest_reader(events)
  local slowest
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', events)) do
    local info = {}
    for i = 1, #group, 2 do
      info[group[i]] = group[i + 1]
    end
    local needed = info['last-delivered-id']
    if info['pending'] > 0 then
      needed = redis.call('XPENDING', events, info['name'])[2]
    end
    if not slowest or is_before(needed, slowest) then
      slowest = needed
    end
  end
  return slowest
end

-- Adds one event, in the step that makes its inspection's end visible: a reader of the stream misses none. The stream
-- keeps its newest `longest` entries and, up to twice as many, what a reader still needs.
local function add_event(events, id, event, longest)
  redis.call('XADD', events, '*', 'id', id, 'event', event)
  local excess = redis.call('XLEN', events) - longest
  if excess <= 0 then
    return
  end
  local slowest = slowest_reader(events)
  if not slowest then
    redis.call('XTRIM', events, 'MAXLEN', '~', longest)
  elseif excess > longest then
    redis.call('XTRIM', events, 'MAXLEN', '~', 2 * longest)
  else
    local oldest = redis.call('XRANGE', events, '-', '+', 'COUNT', math.min(excess, 200) + 1)
    local kept_from = oldest[#oldest][1]
    redis.call('XTRIM', events, 'MINID', '~', is_before(slowest, kept_from) and slowest or kept_from)
  end
end
