#!lua flags=allow-oom
-- Removes, in any status, what its author asked to delete (NIP-09), and keeps it out for K.gate_secs.
--
-- KEYS: see common.lua.
-- ARGV: 1 author, 2 created_at of the request, 3 event ids (JSON array),
--       4 addresses (JSON array of [kind as text, identifier])
-- Returns: how many entries were removed.
-- Errors: none of its own.

local author, asked_at = ARGV[1], ARGV[2]
local deleted, dirty = 0, {}

local function delete_entry(id, entry)
  add_all(dirty, entry.names)
  remove_entry(id, entry)
  deleted = deleted + 1
end

for _, id in ipairs(cjson.decode(ARGV[3])) do
  redis.call('SET', K.deleted_event .. author .. ':' .. id, asked_at, 'EX', K.gate_secs)
  local entry = find_entry(id)
  if entry and entry.author == author then
    delete_entry(id, entry)
  end
end

local function delete_address(kind, name)
  local key = K.deleted_address .. author .. ':' .. kind .. ':' .. encode(name)
  local gate = redis.call('GET', key)
  if not gate or is_later(asked_at, gate) then
    gate = asked_at
  end
  redis.call('SET', key, gate, 'EX', K.gate_secs)
  for _, id in ipairs(redis.call('SMEMBERS', K.identifier .. encode(name))) do
    local entry = find_entry(id)
    if entry and entry.author == author and entry.kind == kind and not is_later(entry.created_at, asked_at) then
      delete_entry(id, entry)
    end
  end
end

for _, address in ipairs(cjson.decode(ARGV[4])) do
  if is_addressable(address[1]) then
    delete_address(address[1], address[2])
  end
end

raise(dirty)
return deleted
