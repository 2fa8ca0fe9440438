-- Put before claim.lua: which jobs a worker leaves to others, because it cannot use their bundle.
-- A job whose deadline has passed is left to nobody: it is taken, to be ended. So is one whose bundle is unserved: for
-- some time every living worker of the pool has said that its store does not have it. A worker whose store could not be
-- read has not said so, nor has one of an older version: such a job waits.
local TAKE, PASS, UNSERVED, GONE = 'take', 'pass', 'unserved', 'gone'

-- What decides about a job, read from its text once: jobs of older versions, and those never passed over, do not have it.
local function note_needs(key)
  local f = redis.call('HMGET', key, 'job', 'submitted_ms')
  local ok, job = pcall(cjson.decode, f[1] or '')
  job = ok and type(job) == 'table' and job or {}
  local bundle = type(job.bundle_hash) == 'string' and job.bundle_hash or ''
  local expires = type(job.deadline_ms) == 'number' and f[2] and f[2] + job.deadline_ms or ''
  redis.call('HSET', key, 'bundle', bundle, 'expires_ms', expires)
  return bundle, expires
end

-- worker: owner, now, seen_from (who was silent since then is not alive), patience_ms; `missing` and `away`: sets of the
-- hashes of bundles that it cannot use; the keys `workers`, prefixes `inspections`, `lacking` and `unserved`.
-- -> function(id): TAKE, PASS, UNSERVED, or GONE (it is no longer waiting)
local function chooser(worker)
  local unserved = {}

  local function is_lacked_by_all(bundle)
    for _, owner in ipairs(redis.call('ZRANGEBYSCORE', worker.workers, worker.seen_from, '+inf')) do
      if redis.call('SISMEMBER', worker.lacking .. owner, bundle) == 0 then
        return false
      end
    end
    return true
  end

  local function find_unserved(bundle)
    local since_key = worker.unserved .. bundle
    if not is_lacked_by_all(bundle) then
      redis.call('DEL', since_key)
      return false
    end
    local since = tonumber(redis.call('GET', since_key) or worker.now)
    -- Nobody looks while no job of it waits: then the time begins anew.
    redis.call('SET', since_key, since, 'PX', 2 * worker.patience_ms)
    return worker.now - since >= worker.patience_ms
  end

  local function is_unserved(bundle)
    if unserved[bundle] == nil then
      unserved[bundle] = find_unserved(bundle)
    end
    return unserved[bundle]
  end

  return function(id)
    local key = worker.inspections .. id
    local f = redis.call('HMGET', key, 'state', 'bundle', 'expires_ms')
    if f[1] ~= 'queued' then
      return GONE
    end
    if not next(worker.missing) and not next(worker.away) then
      return TAKE
    end
    local bundle, expires = f[2], f[3]
    if not bundle then
      bundle, expires = note_needs(key)
    end
    if not worker.missing[bundle] and not worker.away[bundle] then
      return TAKE
    end
    if expires ~= '' and worker.now > tonumber(expires) then
      return TAKE
    end
    return worker.missing[bundle] and is_unserved(bundle) and UNSERVED or PASS
  end
end

-- Tells the others what this worker's store does not have; not for ever, if it dies.
local function tell_lacking(key, missing)
  redis.call('DEL', key)
  for bundle in pairs(missing) do
    redis.call('SADD', key, bundle)
  end
  redis.call('PEXPIRE', key, 86400000)
end
