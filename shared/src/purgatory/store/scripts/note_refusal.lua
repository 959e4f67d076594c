#!lua
-- Notes what was refused, in place of the oldest if there are many.
--
-- KEYS: see common.lua.
-- ARGV: 1 the refusal, JSON
-- Returns: 1
-- Cost: O(1).
-- Errors: none of its own.

local count = redis.call('ZCARD', K.refusals)
-- In microseconds, and each later than the last, so that they stay in order.
local at = NOW * 1000000 + tonumber(TIME[2])
if count > 0 then
  local last = redis.call('ZRANGE', K.refusals, decimal(count - 1), decimal(count - 1))[1]
  at = math.max(at, tonumber(redis.call('ZSCORE', K.refusals, last)) + 1)
end
redis.call('ZADD', K.refusals, decimal(at), ARGV[1])
redis.call('EXPIREAT', K.refusals, decimal(NOW + K.refusals_secs))
local surplus = redis.call('ZCARD', K.refusals) - K.refusals_max
if surplus > 0 then
  redis.call('ZREMRANGEBYRANK', K.refusals, '0', decimal(surplus - 1))
end
return 1
