#!lua flags=allow-oom
-- Reads the dirty number of an identifier.
--
-- KEYS: see common.lua.
-- ARGV: 1 identifier
-- Returns: the number, or nil: it is not dirty.
-- Cost: O(1).
-- Errors: none of its own.

local number = redis.call('ZSCORE', K.dirty, ARGV[1])
return number and tonumber(number)
