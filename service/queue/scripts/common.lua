-- Put before every script. Redis 6.2 commands only.

-- Each fourth job that a pool gives out is of normal priority, if one waits: so `high` cannot starve it.
local NORMAL_TURN = 4

-- Redis's clock, in ms: the one clock that all processes share.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Beyond this share of maxmemory the oldest results and events go: a Redis that they have filled would accept no image.
local MOST_MEMORY = 0.7

local shares = {}

local function memory_is_beyond(share)
  if not shares.used then
    local info = redis.call('INFO', 'memory')
    local used, limit = tonumber(info:match('used_memory:(%d+)')), tonumber(info:match('maxmemory:(%d+)'))
    shares.used = limit and limit > 0 and used / limit or 0
  end
  return shares.used > share
end

-- The fence: true if this claim is still the job's latest one, by owner and attempt. That of a worker which slept past
-- its lease is not. `fields` begins with the `owner` and `attempt` of the inspection's hash.
local function holds(fields, owner, attempt)
  return fields[1] == owner and fields[2] == attempt
end
