#!lua flags=allow-oom
-- Reads the number of the last change.
--
-- KEYS: see common.lua.
-- ARGV: none.
-- Returns: the number; 0: there was none.
-- Cost: O(1).
-- Errors: none of its own.

return tonumber(redis.call('GET', K.changes) or '0')
