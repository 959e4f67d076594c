#!lua flags=allow-oom
-- Returns counts of decisions.
--
-- KEYS: see common.lua.
-- ARGV: a name for each
-- Returns: { count, ... }
-- Cost: O(1) for each.
-- Errors: none of its own.

local counts = redis.call('HMGET', K.decisions, unpack(ARGV))
for place = 1, #ARGV do
  counts[place] = tonumber(counts[place] or '0')
end
return counts
