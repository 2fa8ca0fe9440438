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

-- So many stay though memory is short; it may be a backlog that fills it, which no event makes room for.
local LEAST_EVENTS = 1000
local MOST_TRIMMED = 200

-- Drops some of the oldest entries, but none that a reader still needs.
local function trim_unneeded(events, excess, slowest)
  local oldest = redis.call('XRANGE', events, '-', '+', 'COUNT', math.min(excess, MOST_TRIMMED) + 1)
  local kept_from = oldest[#oldest][1]
  if slowest and is_before(slowest, kept_from) then
    kept_from = slowest
  end
  redis.call('XTRIM', events, 'MINID', '~', kept_from)
end

-- Adds one event, in the step that makes its inspection's end visible: a reader of the stream misses none. The stream
-- keeps its newest `longest` entries and, up to twice as many, what a reader still needs; where memory is short, of the
-- others only the newest.
local function add_event(events, id, event, longest)
  redis.call('XADD', events, '*', 'id', id, 'event', event)
  local length = redis.call('XLEN', events)
  local excess = length - longest
  if excess <= 0 then
    if length > LEAST_EVENTS and memory_is_beyond(MOST_MEMORY) then
      trim_unneeded(events, length - LEAST_EVENTS, slowest_reader(events))
    end
    return
  end
  local slowest = slowest_reader(events)
  if not slowest then
    redis.call('XTRIM', events, 'MAXLEN', '~', longest)
  elseif excess > longest then
    redis.call('XTRIM', events, 'MAXLEN', '~', 2 * longest)
  else
    trim_unneeded(events, excess, slowest)
  end
end
