#!lua flags=allow-oom
-- Counts what there is, for an operator.
--
-- KEYS: see common.lua.
-- ARGV: none
-- Returns: { now, events that are held or asleep, their bytes, releasing or stuck ones, placeholders,
--            coordinates that are dirty or have PRs to reconcile }
-- Cost: O(1).
-- Errors: none of its own.

return {
  NOW,
  redis.call('ZCARD', K.entries),
  tonumber(redis.call('GET', K.bytes) or '0'),
  redis.call('ZCARD', K.releasing),
  redis.call('ZCARD', K.placeholders),
  redis.call('ZCARD', K.dirty) + redis.call('ZCARD', K.dirty_pull_requests),
}
