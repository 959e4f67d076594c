#!lua flags=allow-oom
-- Leases to the caller the releasing entries whose time has come, earliest first. One that is ordered after another,
-- which is still releasing, is put off by a second, or until that has left (settle.lua).
--
-- KEYS: see common.lua.
-- ARGV: 1 how many at most, 2 lease-secs
-- Returns: { { event JSON, lease, after (JSON array of ids) }, ... }.
-- Errors: none of its own.

local leased = {}
local count_max = tonumber(ARGV[1])
local due = redis.call('ZRANGE', K.releasing, '-inf', decimal(NOW), 'BYSCORE', 'LIMIT', 0, K.scanned_max)
for _, id in ipairs(due) do
  if #leased >= count_max then
    break
  end
  local fields = redis.call('HMGET', K.entry .. id, 'event', 'after')
  if not fields[1] then
    redis.call('ZREM', K.releasing, id)
  elseif is_blocked(fields[2], {}) then
    redis.call('ZADD', K.releasing, decimal(NOW + 1), id)
  else
    leased[#leased + 1] = { fields[1], lease(id, tonumber(ARGV[2])), fields[2] }
  end
end
return leased
