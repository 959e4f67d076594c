#!lua flags=allow-oom
-- Raises the dirty number of identifiers.
--
-- KEYS: see common.lua.
-- ARGV: the identifiers.
-- Returns: how many.
-- Errors: none of its own.

local names = {}
add_all(names, ARGV)
raise(names)
return #ARGV
