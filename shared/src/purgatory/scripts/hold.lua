#!lua
-- Holds an event until its git data is here. No allow-oom: a full Redis refuses it whole, before the first write.
--
-- KEYS: see common.lua.
-- ARGV: 1 event id, 2 event JSON, 3 kind, 4 author, 5 created_at, 6 identifiers (JSON array),
--       7 source, 8 hold-secs, 9 entries per author at most, 10 entries at most, 11 ids to extend (JSON array),
--       12 entries per identifier at most
-- Returns: "held" | "already:<status it was found with>" | "deleted" | "replaced" | "full:author" | "full:identifier" |
--          "full:entries".
--          All but the first two changed nothing.
-- Errors: OOM (Redis is at maxmemory).

local id = ARGV[1]
local entry = {
  status = 'held',
  kind = ARGV[3],
  author = ARGV[4],
  created_at = ARGV[5],
  names = cjson.decode(ARGV[6]),
}
local deadline = NOW + tonumber(ARGV[8])
local dirty = {}
add_all(dirty, entry.names)

local function extend_others()
  for _, other in ipairs(cjson.decode(ARGV[11])) do
    extend_entry(other, deadline, dirty)
  end
end

if is_deleted(id, entry) then
  return 'deleted'
end

local found = find_entry(id)
if found then
  -- Written even if nothing else changes: WAIT confirms only what this connection wrote.
  redis.call('HSET', K.entry .. id, 'last_seen', decimal(NOW))
  if found.status == 'asleep' then
    extend_entry(id, deadline, dirty)
    extend_others()
  end
  add_all(dirty, found.names)
  raise(dirty)
  return 'already:' .. found.status
end

local old_id, old
if entry.kind == '30617' then
  old_id = redis.call('GET', announcement_key(entry, entry.names[1]))
  old = old_id and find_entry(old_id)
end
if old then
  local tie = entry.created_at == old.created_at
  if is_later(old.created_at, entry.created_at) or (tie and old_id < id) then
    return 'replaced'
  end
end

local freed = old and 1 or 0
if count(K.author .. entry.author) - freed >= tonumber(ARGV[9]) then
  return 'full:author'
end
for _, name in ipairs(entry.names) do
  if redis.call('SCARD', K.identifier .. encode(name)) - freed >= tonumber(ARGV[12]) then
    return 'full:identifier'
  end
end
if count(K.entries) - freed >= tonumber(ARGV[10]) then
  return 'full:entries'
end

if old then
  remove_entry(old_id, old)
end
redis.call('HSET', K.entry .. id,
  'event', ARGV[2], 'kind', entry.kind, 'author', entry.author, 'identifiers', ARGV[6],
  'created_at', entry.created_at, 'status', 'held', 'source', ARGV[7],
  'held_since', decimal(NOW), 'last_seen', decimal(NOW),
  'waiting_for', '', 'release_error', '', 'after', '[]', 'lease', '')
for _, name in ipairs(entry.names) do
  redis.call('SADD', K.identifier .. encode(name), id)
end
set_deadline(id, entry, deadline)
extend_others()
raise(dirty)
return 'held'
