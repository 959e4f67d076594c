#!lua flags=allow-oom
-- Has all PRs of one page of coordinates reconciled.
--
-- KEYS: see common.lua.
-- ARGV: the coordinates.
-- Returns: how many.
-- Cost: O(coordinates); the caller gives at most K.names_max.
-- Errors: none of its own.

for _, coordinate in ipairs(ARGV) do
  begin_round(coordinate)
end
return #ARGV
