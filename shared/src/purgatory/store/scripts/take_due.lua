#!lua flags=allow-oom
-- Leases to the caller the releasing entries whose time has come, earliest first. One that is ordered after another,
-- which is still releasing, is put off, the longer the longer that lasts, or until that has left: what a
-- stuck one keeps back is looked at now and then.
--
-- KEYS: see common.lua.
-- ARGV: 1 how many at most, 2 lease-secs
-- Returns: at most K.page_bytes of events and one more:
--          { { event JSON, lease, after (JSON array of ids) }, ... }.
-- Cost: O(1) for each of at most K.scanned_max that are due or ordered before one that is.
-- Errors: none of its own.

local leased, bytes, looked_at = {}, 0, 0
local count_max = math.min(tonumber(ARGV[1]), K.page_max)
local due = redis.call('ZRANGE', K.releasing, '-inf', decimal(NOW), 'BYSCORE', 'LIMIT', 0, K.scanned_max)
for _, id in ipairs(due) do
  if #leased >= count_max or bytes >= K.page_bytes or looked_at >= K.scanned_max then
    break
  end
  local fields = redis.call('HMGET', K.entry .. id, 'status', 'after', 'releasing_since')
  local after = fields[2] or '[]'
  looked_at = looked_at + 1 + #after / 67
  if not fields[1] then
    stop_releasing(id)
  elseif blocker(id, after, {}) then
    local since = tonumber(fields[3] or '') or NOW
    local secs = math.floor((NOW - since) / 8)
    redis.call('ZADD', K.releasing, decimal(NOW + math.min(math.max(secs, 1), K.put_off_secs_max)), id)
  else
    local event = read_event(id)
    bytes = bytes + #event
    leased[#leased + 1] = { event, lease(id, tonumber(ARGV[2])), after }
  end
end
return leased
