#!lua flags=allow-oom
-- Leases to the caller the leaving entries whose time has come, earliest first. One that must wait for another, which
-- is still leaving, is pushed on by a second, or until that has left (settle.lua).
--
-- KEYS: see common.lua.
-- ARGV: 1 how many at most, 2 lease-secs, 3 how many to look at at most
-- Returns: { { event JSON, lease }, ... }.
-- Errors: none of its own.

local function is_blocked(after)
  for _, id in ipairs(cjson.decode(after)) do
    local entry = find_entry(id)
    if entry and is_leaving(entry) then
      return true
    end
  end
  return false
end

local leased = {}
local count_max = tonumber(ARGV[1])
for _, id in ipairs(redis.call('ZRANGE', K.releasing, '-inf', decimal(NOW), 'BYSCORE', 'LIMIT', 0, ARGV[3])) do
  if #leased >= count_max then
    break
  end
  local fields = redis.call('HMGET', K.entry .. id, 'event', 'after')
  if not fields[1] then
    redis.call('ZREM', K.releasing, id)
  elseif is_blocked(fields[2]) then
    redis.call('ZADD', K.releasing, decimal(NOW + 1), id)
  else
    local lease = next_number(K.leases)
    redis.call('HSET', K.entry .. id, 'lease', decimal(lease))
    redis.call('ZADD', K.releasing, decimal(NOW + tonumber(ARGV[2])), id)
    leased[#leased + 1] = { fields[1], lease }
  end
end
return leased
