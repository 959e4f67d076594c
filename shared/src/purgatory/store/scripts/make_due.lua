#!lua flags=allow-oom
-- Makes an event due that is releasing or stuck, however long ago it was tried.
--
-- KEYS: see common.lua.
-- ARGV: 1 event id
-- Returns: 1 done, 0 nothing done: it is not among them.
-- Cost: O(1).
-- Errors: none of its own.

if not redis.call('ZSCORE', K.releasing, ARGV[1]) then
  return 0
end
redis.call('ZADD', K.releasing, '0', ARGV[1])
wake()
return 1
