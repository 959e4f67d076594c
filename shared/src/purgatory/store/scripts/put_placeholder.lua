#!lua
-- Records a PR commit that came before its event, beside other commits for that event: whose is right, only the event says. No
-- allow-oom: a full Redis refuses it whole.
--
-- KEYS: see common.lua.
-- ARGV: 1 event id, 2 coordinate, 3 commit oid, 4 hold-secs, 5 what the source counts by, empty if it does not,
--       6 placeholders at most, 7 at most of this repository, 8 at most from this source
-- Returns: "recorded", or why nothing changed: "full" | "full:source", see common.lua.
-- Cost: O(1), and a page of those from this source whose deadlines are past.
-- Errors: OOM (Redis is at maxmemory).

local source_group = ARGV[5]
local tail = placeholder_tails(ARGV[1], ARGV[2], ARGV[3])[1]
local index = K.placeholders_of .. in_key(ARGV[2])
local found = find_placeholder(ARGV[1], ARGV[2], ARGV[3])
if found then
  -- Who restores it after a loss does not know where it came from.
  if source_group == '' then
    source_group = redis.call('HGET', K.placeholder .. found, 'source_group') or ''
  end
  remove_placeholder(found, ARGV[2])
else
  local full = placeholders_full(1, ARGV[2], source_group, ARGV[6], ARGV[7], ARGV[8])
  if full then
    return full
  end
end
local deadline = NOW + tonumber(ARGV[4])
local ends = decimal(deadline + K.backstop_secs)
redis.call('HSET', K.placeholder .. tail, 'event_id', ARGV[1], 'coordinate', ARGV[2],
  'commit_oid', ARGV[3], 'deadline', decimal(deadline))
redis.call('EXPIREAT', K.placeholder .. tail, ends)
redis.call('ZADD', index, '0', tail)
end_not_before(index, ends)
redis.call('ZADD', K.placeholders, decimal(deadline), tail)
if source_group ~= '' then
  local of_source = K.placeholders_from .. encode(source_group)
  redis.call('HSET', K.placeholder .. tail, 'source_group', source_group)
  for _, ended in ipairs(redis.call('ZRANGE', of_source, '-inf', decimal(NOW), 'BYSCORE', 'LIMIT', 0, K.page_max)) do
    redis.call('ZREM', of_source, ended)
  end
  redis.call('ZADD', of_source, decimal(deadline), tail)
  end_not_before(of_source, ends)
end
mark_unreconciled(ARGV[1], { ARGV[2] })
return 'recorded'
