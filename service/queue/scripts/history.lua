-- The history: ended inspections in the order in which they ended, as a whole and per value that is asked for.
-- Put before complete.lua, after reviewed.lua: add_to_history, forget_oldest.

-- A position is Redis's time in ms, times 1024, and at least one more than the last: it only grows, also when the clock
-- goes back or the history was emptied, and it is exact in a double until the year 2248. The last one is kept beside the
-- history, which may have been emptied; an older worker looks at the history alone, and so does this one as well.
local function next_position(history)
  local last_given = history:match('^(.*:)') .. 'position'
  local kept = redis.call('GET', last_given)
  local newest = redis.call('ZREVRANGE', history, 0, 0, 'WITHSCORES')[2]
  local last = math.max(tonumber(kept or 0), tonumber(newest or 0))
  local position = math.max(now_ms() * 1024, last + 1)
  redis.call('SET', last_given, string.format('%.0f', position))
  return position
end

-- The keys under which an inspection is found; `outcome` is its verdict, or its state where it has none.
local function history_keys(history, result, outcome)
  local found = {history, history .. ':outcome:' .. outcome}
  for _, field in ipairs({'product', 'serial', 'lot', 'station'}) do
    if type(result[field]) == 'string' then -- cjson.null is no false
      found[#found + 1] = history .. ':' .. field .. ':' .. result[field]
    end
  end
  return found
end

-- Adds one inspection.
local function add_to_history(history, id, result, outcome, ttl_ms)
  local position = next_position(history)
  for _, key in ipairs(history_keys(history, result, outcome)) do
    add_to_index(key, position, id, ttl_ms)
  end
end

-- So many stay whatever fills the memory: it may be a backlog, which no result makes room for.
local LEAST_RESULTS = 1000
local MOST_AT_ONCE = 20

-- Beyond so many results the oldest go, a few at a time: inspection, idempotency key and index entries together.
local function forget_oldest(history, inspections, max_results)
  local kept = redis.call('ZCARD', history)
  local excess, reason = kept - max_results, 'number'
  if excess < MOST_AT_ONCE and kept > LEAST_RESULTS and memory_is_beyond(MOST_MEMORY) then
    excess, reason = kept - LEAST_RESULTS, 'memory'
  end
  excess = math.min(excess, MOST_AT_ONCE)
  if excess > 0 then
    redis.call('HINCRBY', history:match('^(.*:)') .. 'forgotten', reason, excess)
  end
  for _, id in ipairs(excess > 0 and redis.call('ZRANGE', history, 0, excess - 1) or {}) do
    local f = redis.call('HMGET', inspections .. id, 'result', 'outcome', 'idempotency', 'unfinished')
    redis.call('ZREM', history, id)
    if f[1] and f[2] then
      local result = cjson.decode(f[1])
      if type(result.serial) ~= 'string' and f[4] then
        result.serial = f[4]:match(':unfinished:(.*)') -- as complete.lua found it under: its job was unreadable
      end
      for _, key in ipairs(history_keys(history, result, f[2])) do
        redis.call('ZREM', key, id)
      end
      forget_reviewed(history, inspections .. id, id, result)
    end
    redis.call('DEL', inspections .. id, f[3] or inspections .. id)
  end
end
