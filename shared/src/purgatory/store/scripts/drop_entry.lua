#!lua flags=allow-oom
-- Removes an entry in any status, because an operator wants it. If it is no PR, its coordinates become dirty.
--
-- KEYS: see common.lua.
-- ARGV: 1 event id
-- Returns: the status it had; empty: there is no such entry.
-- Cost: O(coordinates), of an announcement at most K.page_max pubkeys that are listed, and O(1) for each of at most K.scanned_max that wait for the entry.
-- Errors: none of its own.

local id = ARGV[1]
local entry = find_entry(id)
if not entry then
  return ''
end
remove_entry(id, entry)
if not is_pull_request(entry) then
  local dirty = {}
  add_all(dirty, entry.coordinates)
  raise(dirty)
end
return entry.status
