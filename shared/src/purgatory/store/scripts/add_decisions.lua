#!lua flags=allow-oom
-- Adds to counts of decisions.
--
-- KEYS: see common.lua.
-- ARGV: a name and how many more, for each: "<kind>:<decision>"
-- Returns: 1
-- Cost: O(1) for each.
-- Errors: none of its own.

for place = 1, #ARGV, 2 do
  local count = tonumber(redis.call('HGET', K.decisions, ARGV[place]) or '0')
  redis.call('HSET', K.decisions, ARGV[place], decimal(count + tonumber(ARGV[place + 1])))
end
return 1
