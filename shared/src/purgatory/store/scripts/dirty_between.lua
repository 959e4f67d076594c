#!lua flags=allow-oom
-- Counts what is dirty by a change between two others.
--
-- KEYS: see common.lua.
-- ARGV: 1 the number of a change, 2 that of another one: the first does not count, the second does.
-- Returns: how much.
-- Cost: O(log(dirty)).
-- Errors: none of its own.

local count = 0
for _, key in ipairs({ K.dirty, K.dirty_pull_requests }) do
  count = count + redis.call('ZCOUNT', key, '(' .. ARGV[1], ARGV[2])
end
return count
