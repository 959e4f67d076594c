#!lua flags=allow-oom
-- Reads the name of the epoch, which server answers, and what there is to do for a gateway.
--
-- KEYS: see common.lua.
-- ARGV: none.
-- Returns: { name of the epoch, or an empty text: this Redis knows of none, the server's run id,
--            1 where something is overdue, 1 where coordinates are dirty, 1 where PRs have to be reconciled,
--            1 where something is due }.
-- Cost: O(log n) of what waits.
-- Errors: none of its own.

local function count_past(set)
  return #redis.call('ZRANGE', set, '-inf', decimal(NOW), 'BYSCORE', 'LIMIT', 0, 1)
end

return {
  redis.call('GET', K.epoch) or '',
  run_id(),
  math.max(count_past(K.deadlines), count_past(K.placeholders), count_past(K.entries)),
  redis.call('EXISTS', K.dirty),
  redis.call('EXISTS', K.dirty_pull_requests),
  count_past(K.releasing),
}
