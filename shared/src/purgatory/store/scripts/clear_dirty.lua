#!lua flags=allow-oom
-- Clears the dirty mark of a coordinate if nothing was changed since its number was read, and in its place has all PRs that
-- are offered to it reconciled: what has happened to the repository may complete them.
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
begin_round(ARGV[1])
return redis.call('ZREM', K.dirty, ARGV[1])
