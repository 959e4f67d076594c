#!lua flags=allow-oom
-- Clears the dirty mark of a coordinate if nothing was changed since its number was read.
--
-- KEYS: see common.lua.
-- ARGV: 1 coordinate, 2 the number read
-- Returns: 1 cleared, 0 left as it is (raised since, or not dirty).
-- Cost: O(1).
-- Errors: none of its own.

local number = redis.call('ZSCORE', K.dirty, ARGV[1])
if not number or decimal(tonumber(number)) ~= ARGV[2] then
  return 0
end
return redis.call('ZREM', K.dirty, ARGV[1])
