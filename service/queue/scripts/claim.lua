-- Takes jobs and their leases in one step, so that no entry is ever pending without a lease: a worker that dies right
-- after this script leaves leases that end, and reclaim.lua finds its jobs.
-- The order: what this worker holds by a reply that was lost, then a suspect, then returned jobs, then new ones.
-- A suspect (its worker died) comes alone: to an empty worker, and nothing beside it. Of the others, high priority
-- comes first, but each fourth turn is normal's.
-- A job whose bundle this worker cannot use is left to the others: see unusable.lua.
-- KEYS  high, normal, returned high, returned normal, suspects, leases, held, workers, wake, draining,
--       turns
-- ARGV  inspection prefix, group, consumer, owner, count, lease ms, idle (0/1), lacking prefix, unserved prefix,
--       patience ms with a bundle that no worker has, number of bundles that this worker's store does not have, number
--       of those for which it could not be read, their hashes, then 'id:attempt' of what the worker knows that it holds
-- -> {last id of high, of normal, of wake, job...}
-- job: {id, job, attempt, submitted, started, deaths, priority, now, alone, unserved}; see service/queue/claims.py
local suspects, leases, held, workers, wake, draining = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local turns = KEYS[11]
local prefix, group, consumer, owner = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local count, lease_ms, idle = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'
local first_missing, first_away = 13, 13 + ARGV[11]
local first_known = first_away + ARGV[12]
local now = now_ms()
local jobs = {}

-- The arguments from one place up to before another, as a set.
local function set_of(first, behind)
  local found = {}
  for i = first, behind - 1 do
    found[ARGV[i]] = true
  end
  return found
end

local missing, known = set_of(first_missing, first_away), set_of(first_known, #ARGV + 1)
local choose = chooser({
  owner = owner, now = now, seen_from = now - lease_ms, patience_ms = tonumber(ARGV[10]), workers = workers,
  inspections = prefix, lacking = ARGV[8], unserved = ARGV[9], missing = missing, away = set_of(first_away, first_known),
})

local function give(id, choice)
  local f = redis.call('HMGET', prefix .. id, 'job', 'attempt', 'submitted_ms', 'started_ms', 'deaths', 'priority',
    'alone')
  jobs[#jobs + 1] = {id, f[1], f[2], f[3] or tostring(now), f[4], f[5] or '0', f[6], tostring(now), f[7] or '0',
    choice == UNSERVED and '1' or '0'}
end

local function lease(id)
  redis.call('ZADD', leases, now + lease_ms, id)
end

local function take(id, alone, choice)
  local key = prefix .. id
  redis.call('HINCRBY', key, 'attempt', 1)
  redis.call('HSET', key, 'state', 'running', 'owner', owner, 'alone', alone, 'claimed_ms', now)
  redis.call('HSETNX', key, 'started_ms', now)
  redis.call('SADD', held, id)
  lease(id)
  give(id, choice)
end

-- What this worker holds without knowing, because the reply to a claim was lost, or because it failed to hand it back,
-- is given again, as a new attempt: whatever is still done with the old one is stale. A suspect waits until the worker
-- is idle, as at its first claim.
local function give_lost_replies()
  local holding, alone = 0, false
  for _, id in ipairs(redis.call('SMEMBERS', held)) do
    local f = redis.call('HMGET', prefix .. id, 'attempt', 'alone')
    holding = holding + 1
    alone = alone or f[2] == '1'
    if not known[id .. ':' .. (f[1] or '')] and #jobs < count and (idle or f[2] ~= '1') then
      redis.call('HINCRBY', prefix .. id, 'attempt', 1)
      lease(id)
      give(id)
    end
  end
  return holding, alone
end

-- A reader of a sorted set of waiting ids: each call returns the first that is due and may be taken, and the choice.
-- It stays there until it is removed. What is passed over stays, and is not looked at again.
local PAGE = 100

local function reader(waiting)
  local page, at, passed = {}, 1, 0
  return function()
    while true do
      if not page[at] then
        page, at = redis.call('ZRANGEBYSCORE', waiting, '-inf', now, 'LIMIT', passed, PAGE), 1
      end
      local id = page[at]
      local choice = id and choose(id)
      if not id or choice == TAKE or choice == UNSERVED then
        at = at + 1
        return id, choice
      end
      at = at + 1
      if choice == PASS then
        passed = passed + 1
      else
        redis.call('ZREM', waiting, id)
      end
    end
  end
end

-- True if this worker must take no other job now: it got a suspect, or makes room for one.
local function take_suspect(empty)
  local first, choice = reader(suspects)()
  if not first then
    return false
  end
  if empty then
    redis.call('ZREM', suspects, first)
    if redis.call('GET', draining) == owner then
      redis.call('DEL', draining)
    end
    take(first, '1', choice)
    return true
  end
  -- One worker at a time stops claiming until it is empty; the others go on.
  if redis.call('GET', draining) == owner then
    redis.call('PEXPIRE', draining, lease_ms)
    return true
  end
  return redis.call('SET', draining, owner, 'NX', 'PX', lease_ms) and true or false
end

-- HIGH and NORMAL are the places of their keys: KEYS[1], KEYS[2] and, two further, those handed back.
local HIGH, NORMAL = 1, 2
local next_returned = {reader(KEYS[HIGH + 2]), reader(KEYS[NORMAL + 2])}

-- Each takes one job and says whether there was one.
local function take_returned(priority)
  local id, choice = next_returned[priority]()
  if not id then
    return false
  end
  redis.call('ZREM', KEYS[priority + 2], id)
  take(id, '0', choice)
  return true
end

local function take_new(priority)
  local stream = KEYS[priority]
  while true do
    local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, '>')
    if not reply then
      return false
    end
    local entry = reply[1][2][1]
    local id = entry[2] and entry[2][2]
    local choice = id and choose(id) or GONE
    if choice == PASS then
      redis.call('ZADD', KEYS[priority + 2], now, id)
    elseif choice ~= GONE then
      take(id, '0', choice)
      return true
    elseif not id or redis.call('EXISTS', prefix .. id) == 0 then
      redis.call('XACK', stream, group, entry[1])
      redis.call('XDEL', stream, entry[1])
    end
  end
end

local function take_one(priority)
  return take_returned(priority) or take_new(priority)
end

local function take_in_turn()
  local turn = tonumber(redis.call('GET', turns) or 0)
  local before = #jobs
  while #jobs < count do
    local first, second = HIGH, NORMAL
    if (turn + 1) % NORMAL_TURN == 0 then
      first, second = NORMAL, HIGH
    end
    if not take_one(first) and not take_one(second) then
      break
    end
    turn = (turn + 1) % NORMAL_TURN
  end
  if #jobs > before then
    redis.call('SET', turns, turn)
  end
end

local function last_generated(stream)
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      return info[i + 1]
    end
  end
end

local function last_wake()
  local last = redis.call('XREVRANGE', wake, '+', '-', 'COUNT', 1)[1]
  return last and last[1] or '0-0'
end

redis.call('ZADD', workers, now, owner)
tell_lacking(ARGV[8] .. owner, missing)
local holding, alone = give_lost_replies()
if not alone and not take_suspect(holding == 0 and not next(known) and idle) then
  take_in_turn()
end
return {last_generated(KEYS[1]), last_generated(KEYS[2]), last_wake(), unpack(jobs)}
