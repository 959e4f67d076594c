#!lua flags=allow-oom
-- Reads what an event waits behind, or may wait behind.
--
-- KEYS: see common.lua.
-- ARGV: 1 event id, then the ids of the others, at most 200
-- Returns: { the status of its own entry, or empty, 1 if one of the others is here, else 0, the last lease }. The lease is
--          empty if one is here: when that has gone, it may be served, whatever was leased since.
-- Cost: O(ids).
-- Errors: none of its own.

local is_any_here = 0
for place = 2, #ARGV do
  is_any_here = math.max(is_any_here, redis.call('EXISTS', K.entry .. ARGV[place]))
end
local last_lease = is_any_here == 1 and '' or redis.call('GET', K.leases) or '0'
return { redis.call('HGET', K.entry .. ARGV[1], 'status') or '', is_any_here, last_lease }
