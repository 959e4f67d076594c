#!lua flags=allow-oom
-- Records how an attempt to publish ended, for the caller that has the lease.
--
-- KEYS: see common.lua.
-- ARGV: 1 event id, 2 lease,
--       3 "served": the relay has the event; what waits behind it is releasing | "dropped": it will never take it; the entry goes with both |
--         "give-back": there was no attempt, the entry is due at once | "retry" | "stuck"
--       4 in how many seconds to try again, 5 what the relay answered (4 and 5 only with "retry" and "stuck")
-- Returns: 1 settled, 0 nothing done: the lease is not the current one.
-- Cost: O(coordinates), and O(1) for each of at most K.scanned_max that wait for the entry, and of K.behind_read_max behind it.
-- Errors: none of its own.

local id = ARGV[1]
if redis.call('HGET', K.entry .. id, 'lease') ~= ARGV[2] then
  return 0
end
if ARGV[3] == 'served' or ARGV[3] == 'dropped' then
  local entry = find_entry(id)
  if ARGV[3] == 'served' then
    release_behind(id)
  end
  remove_entry(id, entry, ARGV[3] == 'served')
  if ARGV[3] == 'dropped' and not is_pull_request(entry) then
    local dirty = {}
    add_all(dirty, entry.coordinates)
    raise(dirty)
  end
elseif ARGV[3] == 'give-back' then
  stop_waiting(id)
  set_fields(id, 'lease', '')
  redis.call('ZADD', K.releasing, decimal(NOW), id)
else
  stop_waiting(id)
  set_fields(id, 'status', ARGV[3] == 'stuck' and 'stuck' or 'releasing', 'release_error', ARGV[5], 'lease', '')
  redis.call('ZADD', K.releasing, decimal(NOW + tonumber(ARGV[4])), id)
end
return 1
