-- Takes an image without a verdict out of the review queue: it is no longer stored, so nobody can look at it.
-- KEYS  inspection, history, claim
-- ARGV  id
settle(KEYS[2], KEYS[1], ARGV[1])
redis.call('DEL', KEYS[3])
