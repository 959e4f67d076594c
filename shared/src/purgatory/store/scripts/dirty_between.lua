#!lua flags=allow-oom
-- Counts what is dirty by a change between two others.
--
-- KEYS: see common.lua.
-- ARGV: 1 the number of a change, 2 that of another one: the first does not count, the second does.
-- Returns: how much.
-- Cost: O(log(dirty)).
-- Errors: none of its own.

return redis.call('ZCOUNT', K.dirty, '(' .. ARGV[1], ARGV[2])
