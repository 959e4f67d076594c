#!lua flags=allow-oom
-- Raises the dirty number of one page of coordinates.
--
-- KEYS: see common.lua.
-- ARGV: the coordinates.
-- Returns: how many.
-- Cost: O(coordinates); the caller gives at most K.names_max.
-- Errors: none of its own.

local coordinates = {}
add_all(coordinates, ARGV)
raise(coordinates)
return #ARGV
