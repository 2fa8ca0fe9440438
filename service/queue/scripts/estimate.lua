-- What would become of a submission now? Changes nothing, but that places of ended jobs are
-- given back.
-- KEYS  high, normal, leases, pace
-- ARGV  priority, backlog limit, longest wait ms, deadline ms or '', set of the places of the caller's API key or '',
--       inspection prefix
-- -> as `admission`
return admission(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]),
  ARGV[5], ARGV[6])
