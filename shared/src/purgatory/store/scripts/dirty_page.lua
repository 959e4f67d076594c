#!lua flags=allow-oom
-- Lists one page of dirty coordinates, the oldest change first.
--
-- KEYS: see common.lua.
-- ARGV: 1 the number of the last change that is known, "0" at first, 2 how many at most
-- Returns: { { coordinate, dirty number }, ... }.
-- Cost: O(coordinates); the caller asks for at most K.names_max.
-- Errors: none of its own.

local dirty = {}
local after = '(' .. ARGV[1]
for _, coordinate in ipairs(redis.call('ZRANGE', K.dirty, after, '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
  dirty[#dirty + 1] = { coordinate, tonumber(redis.call('ZSCORE', K.dirty, coordinate)) }
end
return dirty
