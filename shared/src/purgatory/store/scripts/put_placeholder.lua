#!lua
-- Records a PR commit that came before its event. No allow-oom: a full Redis refuses it whole.
--
-- KEYS: see common.lua.
-- ARGV: 1 event id, 2 coordinate, 3 commit oid, 4 hold-secs, 5 placeholders at most, 6 at most of this repository
-- Returns: 1 recorded, 0 nothing changed: there are as many as may be, of this repository, or in all and more here than
-- each may always have.
-- Cost: O(1).
-- Errors: OOM (Redis is at maxmemory).

local tail = ARGV[1] .. ':' .. in_key(ARGV[2])
local index = K.placeholders_of .. in_key(ARGV[2])
if not redis.call('ZSCORE', K.placeholders, tail) then
  local here = redis.call('ZCARD', index)
  local is_full = count(K.placeholders) >= tonumber(ARGV[5]) and here >= K.placeholders_kept_free
  if is_full or here >= tonumber(ARGV[6]) then
    return 0
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
ask_for_look(ARGV[1], { ARGV[2] })
return 1
