-- Takes one token from a bucket that fills at a steady rate.
-- KEYS  bucket
-- ARGV  tokens per second, tokens that it holds at most
-- -> ms to wait for the next token; 0: taken
local bucket, rate, burst = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])

local now = now_ms()
local kept = redis.call('HMGET', bucket, 'tokens', 'at_ms')
local tokens = tonumber(kept[1]) or burst
-- A clock that was set back fills nothing.
tokens = math.min(burst, tokens + math.max(0, now - (tonumber(kept[2]) or now)) * rate / 1000)

local wait_ms = 0
if tokens >= 1 then
  tokens = tokens - 1
else
  wait_ms = math.max(1, math.ceil((1 - tokens) * 1000 / rate))
end
redis.call('HSET', bucket, 'tokens', tostring(tokens), 'at_ms', now)
redis.call('PEXPIRE', bucket, math.ceil((burst - tokens) * 1000 / rate) + 1000)
return wait_ms
