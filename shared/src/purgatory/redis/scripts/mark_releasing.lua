#!lua flags=allow-oom
-- Marks complete events as releasing, writes them whole, and leases them to the caller.
--
-- KEYS: see common.lua.
-- ARGV: 1 lease-secs, then of each release, in the order of publishing:
--       +1 event id, +2 event JSON, +3 kind, +4 author, +5 created_at, +6 identifiers (JSON array),
--       +7 ids of the events to publish before it (JSON array)
-- Returns: { { place of the release in ARGV (from 1), lease }, ... } of those that are the caller's, in order. Left
--          out and unchanged: what is leaving already and whose time has not come (leased to somebody else, or to be
--          retried later), and what its author deleted since the caller decided.
-- Errors: none of its own.

local leased = {}
local time = decimal(NOW + tonumber(ARGV[1]))
for first = 2, #ARGV, 7 do
  local id = ARGV[first]
  local entry = {
    kind = ARGV[first + 2],
    author = ARGV[first + 3],
    created_at = ARGV[first + 4],
    names = cjson.decode(ARGV[first + 5]),
  }
  local old = find_entry(id)
  local retry = redis.call('ZSCORE', K.releasing, id)
  local is_anothers = old and is_leaving(old) and retry and tonumber(retry) > NOW
  if not is_anothers and not is_deleted(id, entry) then
    if old then
      clear_deadline(id, old)
    else
      redis.call('HSET', K.entry .. id, 'source', '', 'source_group', '',
        'bytes', decimal(#ARGV[first + 1]), 'held_since', decimal(NOW), 'last_seen', decimal(NOW),
        'deadline', decimal(NOW), 'release_error', '')
    end
    local lease = decimal(next_number(K.leases))
    redis.call('HSET', K.entry .. id,
      'event', ARGV[first + 1], 'kind', entry.kind, 'author', entry.author, 'identifiers', ARGV[first + 5],
      'created_at', entry.created_at, 'status', 'releasing', 'waiting_for', '', 'after', ARGV[first + 6],
      'lease', lease)
    redis.call('PERSIST', K.entry .. id)
    for _, name in ipairs(entry.names) do
      redis.call('SADD', K.identifier .. encode(name), id)
    end
    redis.call('ZADD', K.releasing, time, id)
    leased[#leased + 1] = { (first + 5) / 7, tonumber(lease) }
  end
end
if #leased > 0 then
  wake()
end
return leased
