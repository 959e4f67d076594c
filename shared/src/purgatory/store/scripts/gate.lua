#!lua
-- Keeps out what its author asked to delete (NIP-09, NIP-62), for K.gate_secs. No allow-oom, and no more than
-- so many gates: they only bridge the time until the relay has the request, which rules the events out by itself.
--
-- KEYS: see common.lua.
-- ARGV: 1 author, 2 created_at of the request,
--       then what is kept out: an event id, or "author" (all events up to that time),
--       or kind and encoded identifier as <kind>:<encoded identifier> (all of its versions up to that time)
-- Returns: how many of them are gated.
-- Cost: O(targets), at most 200.
-- Errors: OOM (Redis is at maxmemory).

local author, asked_at = ARGV[1], ARGV[2]
local key = gate_keys(author)[1]
local ends = decimal((math.floor(NOW / K.gate_secs) + 2) * K.gate_secs)
local sum = K.gate_bytes .. decimal(math.floor(NOW / K.gate_secs))
local count = redis.call('HLEN', key)
local bytes = tonumber(redis.call('GET', sum) or '0')

-- Whether there is room for one more: for those who have few also where others have taken much.
local function has_room()
  if bytes >= K.gates_bytes_max / 2 then
    return bytes < K.gates_bytes_max and count < K.gates_kept_free
  end
  return count < K.gates_per_author_max
end

local gated, added = 0, 0
for place = 3, #ARGV do
  local target = ARGV[place]
  local old = redis.call('HGET', key, target)
  if old or has_room() then
    if not old then
      -- What Redis takes for a field beside its name, and for a key of its own.
      local more = #target + 96 + (count == 0 and 256 or 0)
      count, bytes, added = count + 1, bytes + more, added + more
    end
    local gate = old and open_gate(old)
    if not gate or is_later(asked_at, gate) then
      gate = asked_at
    end
    redis.call('HSET', key, target, gate .. ':' .. decimal(NOW + K.gate_secs))
    gated = gated + 1
  end
end
if added > 0 then
  redis.call('INCRBY', sum, decimal(added))
  redis.call('EXPIREAT', sum, ends)
  redis.call('EXPIREAT', key, ends)
end
return gated
