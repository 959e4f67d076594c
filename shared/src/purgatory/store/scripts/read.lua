#!lua flags=allow-oom
-- Reads everything about some identifiers in one step, and takes vanished entries out of the index it reads.
--
-- KEYS: see common.lua.
-- ARGV: the identifiers.
-- Returns: { now,
--            { { identifier, dirty number }, ... },
--            { { event JSON, identifiers (JSON array), status, source, held_since, deadline, waiting_for,
--                release_error, after (JSON array of ids) }, ... } each entry once,
--            { { event id, owner, identifier, commit oid, deadline }, ... } the placeholders }
-- Errors: none of its own.

local dirty, entries, placeholders, seen = {}, {}, {}, {}
for _, name in ipairs(ARGV) do
  local number = redis.call('ZSCORE', K.dirty, name)
  if number then
    dirty[#dirty + 1] = { name, tonumber(number) }
  end
  local index = K.identifier .. encode(name)
  for _, id in ipairs(redis.call('SMEMBERS', index)) do
    local fields = redis.call('HMGET', K.entry .. id,
      'event', 'identifiers', 'status', 'source', 'held_since', 'deadline', 'waiting_for', 'release_error',
      'after')
    if not fields[1] then
      redis.call('SREM', index, id)
    elseif not seen[id] then
      seen[id] = true
      entries[#entries + 1] = fields
    end
  end
  index = K.placeholders_of .. encode(name)
  for _, tail in ipairs(redis.call('SMEMBERS', index)) do
    local fields = redis.call('HMGET', K.placeholder .. tail,
      'event_id', 'owner', 'identifier', 'commit_oid', 'deadline')
    if fields[1] then
      placeholders[#placeholders + 1] = fields
    else
      redis.call('SREM', index, tail)
    end
  end
end
return { NOW, dirty, entries, placeholders }
