-- Gives one waiting image to one person, for a while. What somebody holds is given to nobody else; what the person
-- holds at the same desk already is given again, by a new claim: who was given it has been left, and may not know.
-- KEYS  turns, ids of what the person was given
-- ARGV  person, most images of one person, secret of the claim, its length ms, inspection prefix, claim prefix, waiting
--       prefix, index suffix (of a product, a station, both, or ''), the id of the one image that is wanted or '', the
--       desk or '', then ids that the person does not want now, or has there
-- -> {id, claim, kind, until ms}, 'full' (the person has the most), or nothing
local own = KEYS[2]
local person, most, secret, length_ms = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local inspections, claims, waiting, suffix, wanted = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local desk = ARGV[10]

-- Each fourth turn begins with an image to judge blind: else a full queue would leave the audit without answers.
local ORDERS = {
  [0] = {'audit', 'double_read', 'disputed', 'fail', 'no_result', 'review'},
  [4] = {'double_read', 'audit', 'disputed', 'fail', 'no_result', 'review'},
}
local USUAL = {'disputed', 'fail', 'no_result', 'review', 'audit', 'double_read'}
-- Of these a person gets none that the same person has judged.
local NEEDS_ANOTHER = {audit = true, double_read = true, disputed = true}
local MOST_LOOKED_AT, AT_ONCE = 1000, 50

local skipped = {}
for i = 11, #ARGV do
  skipped[ARGV[i]] = true
end

-- true, false, or 'gone': the inspection is no longer kept, or waits for something else
local function suits_person(id, kind)
  local f = redis.call('HMGET', inspections .. id, 'waiting', 'readers')
  if f[1] ~= kind then
    return 'gone'
  end
  return not NEEDS_ANOTHER[kind] or not (f[2] and f[2]:find('\n' .. person .. '\n', 1, true))
end

local function is_for_person(id, kind)
  if skipped[id] or redis.call('EXISTS', claims .. id) == 1 then
    return false
  end
  return suits_person(id, kind)
end

local function find(kind)
  local key, looked_at = waiting .. kind .. suffix, 0
  while looked_at < MOST_LOOKED_AT do
    local ids = redis.call('ZRANGE', key, looked_at, looked_at + AT_ONCE - 1)
    if #ids == 0 then
      return nil
    end
    for _, id in ipairs(ids) do
      local suits = is_for_person(id, kind)
      if suits == true then
        return id
      elseif suits == 'gone' then
        redis.call('ZREM', key, id)
      else
        looked_at = looked_at + 1
      end
    end
  end
end

-- Who only asks, and answers nothing, would keep everything from the others.
local function has_most()
  for _, id in ipairs(redis.call('SMEMBERS', own)) do
    local held = redis.call('GET', claims .. id)
    if not held or held:match('[^\n]*$') ~= person then
      redis.call('SREM', own, id)
    end
  end
  return redis.call('SCARD', own) >= most
end

-- -> id and kind of what was given at this desk and is not there, the first that was; nil: nothing
-- What is not asked for any more, or not for this person, is given back.
local function find_left()
  local left, left_kind, left_ms
  for _, id in ipairs(redis.call('SMEMBERS', own)) do
    local held = redis.call('GET', claims .. id) or ''
    local at, kind, holder = held:match('^[^\n.]*%.[^\n.]*%.([^\n.]*)\n([^\n]*)\n([^\n]*)$')
    if at == desk and holder == person and not skipped[id] and (wanted == '' or wanted == id) then
      local is_asked_for = wanted == id or redis.call('ZSCORE', waiting .. kind .. suffix, id)
      local ms = redis.call('PTTL', claims .. id)
      if not is_asked_for or suits_person(id, kind) ~= true then
        redis.call('DEL', claims .. id)
      elseif not left or ms < left_ms or (ms == left_ms and id < left) then
        left, left_kind, left_ms = id, kind, ms
      end
    end
  end
  return left, left_kind
end

local function give(id, kind)
  local claim = id .. '.' .. secret .. (desk ~= '' and '.' .. desk or '')
  redis.call('SET', claims .. id, claim .. '\n' .. kind .. '\n' .. person, 'PX', length_ms)
  redis.call('SADD', own, id)
  redis.call('PEXPIRE', own, length_ms)
  return {id, claim, kind, now_ms() + length_ms}
end

if desk ~= '' then
  local id, kind = find_left()
  if id then
    return give(id, kind)
  end
end
if has_most() then
  return 'full'
end

if wanted ~= '' then
  local kind = redis.call('HGET', inspections .. wanted, 'waiting')
  return kind and is_for_person(wanted, kind) == true and give(wanted, kind) or nil
end
local turn = redis.call('INCR', KEYS[1]) % 8
for _, kind in ipairs(ORDERS[turn] or USUAL) do
  local id = find(kind)
  if id then
    return give(id, kind)
  end
end
return nil
