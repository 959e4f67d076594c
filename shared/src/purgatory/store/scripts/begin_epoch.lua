#!lua flags=allow-oom
-- Begins an epoch of this server, for a gateway that has restored what the change of epochs may have lost.
--
-- KEYS: see common.lua.
-- ARGV: 1 the name of the epoch that was found, empty if none was
-- Returns: the name of the epoch: the new one, or the one that another gateway has begun since.
-- Cost: O(1).
-- Errors: none of its own.

local name = redis.call('GET', K.epoch) or ''
if name == ARGV[1] then
  name = run_id() .. ':' .. decimal(next_number(K.changes))
  redis.call('SET', K.epoch, name)
end
return name
