#!lua flags=allow-oom
-- Removes what an author has held or asleep up to a time (NIP-62), and keeps such events out for K.gate_secs.
-- Releasing ones stay: the relay rules them out.
--
-- KEYS: see common.lua.
-- ARGV: 1 author, 2 created_at of the request
-- Returns: how many entries were removed.
-- Errors: none of its own.

local author, asked_at = ARGV[1], ARGV[2]
local gate = redis.call('GET', K.deleted_author .. author)
if not gate or is_later(asked_at, gate) then
  gate = asked_at
end
redis.call('SET', K.deleted_author .. author, gate, 'EX', K.gate_secs)

local vanished, dirty = 0, {}
for _, member in ipairs(redis.call('ZRANGE', K.author .. author, 0, -1)) do
  local id = string.match(member, '^[^:]*')
  local entry = find_entry(id)
  if entry and not is_later(entry.created_at, asked_at) then
    add_all(dirty, entry.names)
    remove_entry(id, entry)
    vanished = vanished + 1
  end
end

raise(dirty)
return vanished
