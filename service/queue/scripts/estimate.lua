-- What would become of a submission now? Changes nothing.
-- KEYS  high, normal, leases, pace
-- ARGV  priority, backlog limit, longest wait ms, deadline ms or ''
-- -> as `admission`
return admission(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
