#!lua
-- Records a PR commit that came before its event. No allow-oom: a full Redis refuses it whole.
--
-- KEYS: see common.lua.
-- ARGV: 1 event id, 2 owner of the repository, 3 identifier, 4 commit oid, 5 hold-secs, 6 placeholders at most,
-- 7 at most in one place (what an index of them is for)
-- Returns: 1 recorded, 0 nothing changed: there are as many as may be, in this place, or in all and more here than each
-- place may always have.
-- Cost: O(1).
-- Errors: OOM (Redis is at maxmemory).

local name = ARGV[3]
local tail = ARGV[1] .. ':' .. ARGV[2] .. ':' .. encode(name)
local index = K.placeholders_of .. encode(name)
if not redis.call('ZSCORE', K.placeholders, tail) then
  local here = redis.call('ZCARD', index)
  local is_full = count(K.placeholders) >= tonumber(ARGV[6]) and here >= K.placeholders_kept_free
  if is_full or here >= tonumber(ARGV[7]) then
    return 0
  end
end
local deadline = NOW + tonumber(ARGV[5])
local ends = decimal(deadline + K.backstop_secs)
redis.call('HSET', K.placeholder .. tail, 'event_id', ARGV[1], 'owner', ARGV[2], 'identifier', name,
  'commit_oid', ARGV[4], 'deadline', decimal(deadline))
redis.call('EXPIREAT', K.placeholder .. tail, ends)
redis.call('ZADD', index, '0', tail)
end_not_before(index, ends)
redis.call('ZADD', K.placeholders, decimal(deadline), tail)
redis.call('ZADD', K.deadlines, decimal(deadline), tail)
return 1
