#!lua flags=allow-oom
-- Tries each command that the scripts use, with the words that only newer servers know, on keys of its own, which it removes.
--
-- KEYS: 1 {purgatory}:probe, in front of the names of its own keys
-- ARGV: 1 the channel of the notifications
-- Returns: { { the command, what the server answered }, ... } of those that fail.
-- Cost: O(1).
-- Errors: none of its own.

local text, hash, set = KEYS[1] .. ':text', KEYS[1] .. ':hash', KEYS[1] .. ':set'
local failed = {}

local function try(command, ...)
  local answer = redis.pcall(command, ...)
  if type(answer) == 'table' and answer.err then
    failed[#failed + 1] = { command, answer.err }
  end
  return answer
end

local now = try('TIME')
local ends = string.format('%.0f', (tonumber(now[1]) or 0) + 60)
try('INFO', 'server')
try('SET', text, '1', 'EX', '60')
try('GET', text)
try('EXISTS', text)
try('INCRBY', text, '1')
try('DECRBY', text, '1')
try('HSET', hash, 'field', '1')
try('HGET', hash, 'field')
try('HMGET', hash, 'field')
try('HGETALL', hash)
try('HLEN', hash)
try('HSTRLEN', hash, 'field')
try('HDEL', hash, 'other')
try('EXPIREAT', hash, ends, 'NX')
try('EXPIREAT', hash, ends, 'GT')
try('PERSIST', hash)
try('ZADD', set, 'NX', '0', 'member')
try('ZADD', set, 'LT', '0', 'member')
try('ZSCORE', set, 'member')
try('ZMSCORE', set, 'member')
try('ZCARD', set)
try('ZCOUNT', set, '(0', '+inf')
try('ZLEXCOUNT', set, '[a', '(z')
try('ZRANGE', set, '-', '+', 'BYLEX', 'LIMIT', '0', '1')
try('ZRANGE', set, '-inf', '0', 'BYSCORE', 'LIMIT', '0', '1')
try('ZSCAN', set, '0', 'COUNT', '1')
try('ZREMRANGEBYRANK', set, '0', '0')
try('ZREM', set, 'member')
try('PUBLISH', ARGV[1], '')
try('DEL', text, hash, set)
-- Not for scripts: notifications come by it.
if redis.acl_check_cmd and not redis.acl_check_cmd('SUBSCRIBE', ARGV[1]) then
  failed[#failed + 1] = { 'SUBSCRIBE', 'this user has no permission for it, or for the channel' }
end
return failed
