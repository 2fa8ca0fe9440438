-- Renews a claim on an image to review, or gives it back.
-- KEYS  claim
-- ARGV  claim, its length ms from now (0: give it back), id of the inspection, prefix of the ids that a person was given
-- -> until when, ms; nothing if somebody else may have the image
local held, length_ms = redis.call('GET', KEYS[1]), tonumber(ARGV[2])
if not held or held:match('^[^\n]*') ~= ARGV[1] then
  return nil
end
if length_ms == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], length_ms)
  local own = ARGV[4] .. held:match('[^\n]*$')
  redis.call('SADD', own, ARGV[3])
  redis.call('PEXPIRE', own, length_ms)
end
return now_ms() + length_ms
