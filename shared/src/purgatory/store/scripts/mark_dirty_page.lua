#!lua flags=allow-oom
-- Raises the dirty number of one page of identifiers.
--
-- KEYS: see common.lua.
-- ARGV: the identifiers.
-- Returns: how many.
-- Cost: O(identifiers); the caller gives at most K.names_max.
-- Errors: none of its own.

local names = {}
add_all(names, ARGV)
raise(names)
return #ARGV
