#!lua flags=allow-oom
-- Lists one page of coordinates that are dirty, or of which PRs have to be reconciled, the oldest change first.
--
-- KEYS: see common.lua.
-- ARGV: 1 the number of the last change that is known, "0" at first, 2 how many at most,
--       3 "dirty" | "dirty_pull_requests"
-- Returns: { { coordinate, dirty number }, ... }.
-- Cost: O(coordinates); the caller asks for at most K.names_max.
-- Errors: none of its own.

local dirty = {}
local after = '(' .. ARGV[1]
for _, coordinate in ipairs(redis.call('ZRANGE', K[ARGV[3]], after, '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
  dirty[#dirty + 1] = { coordinate, tonumber(redis.call('ZSCORE', K[ARGV[3]], coordinate)) }
end
return dirty
