#!lua flags=allow-oom
-- Reads the dirty number of a coordinate.
--
-- KEYS: see common.lua.
-- ARGV: 1 coordinate
-- Returns: the number, or nil: it is not dirty.
-- Cost: O(1).
-- Errors: none of its own.

local number = redis.call('ZSCORE', K.dirty, ARGV[1])
return number and tonumber(number)
