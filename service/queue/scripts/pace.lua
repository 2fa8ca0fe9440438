-- Put before complete.lua: note_completion measures how fast the pool completes jobs while it is busy.
-- A hash of two sums, of intervals and of completions, each fading by one twentieth per completion; their ratio is the
-- mean interval of about the last twenty. An interval counts only if this job was there when it began: else the queue
-- may have been empty, and a quiet night would read as a slow pool.
local FADE = 0.95

local function note_completion(pace, submitted_ms)
  local now = now_ms()
  local f = redis.call('HMGET', pace, 'last_ms', 'busy_ms', 'completions')
  redis.call('HSET', pace, 'last_ms', now)
  if not f[1] or not submitted_ms or tonumber(submitted_ms) > tonumber(f[1]) then
    return
  end
  local interval, busy, completions = now - f[1], tonumber(f[2] or 0), tonumber(f[3] or 0)
  if completions > 0 then
    -- One outage is no slow pool.
    interval = math.min(interval, math.max(1000, 10 * busy / completions))
  end
  redis.call('HSET', pace, 'busy_ms', busy * FADE + interval, 'completions', completions * FADE + 1)
end
