#!lua flags=allow-oom
-- Notes whom a held announcement lists as maintainers: the next page of what hold_entry.lua has left. It was counted there.
--
-- KEYS: see common.lua.
-- ARGV: 1 event id, 2 coordinate, 3 pubkeys that it lists (JSON array), 4 what was left (follow_listings in common.lua)
-- Returns: what is left now: nothing if the event does not wait any more.
-- Cost: O(1) for each of at most 200 pubkeys and the 800 that are noted; of these at most K.page_max change.
-- Errors: none of its own.

local entry, listed, dirty = find_entry(ARGV[1]), {}, {}
if not entry or not is_waiting(entry) then
  return ''
end
add_all(listed, cjson.decode(ARGV[3]))
local left = follow_listings(ARGV[2], listed, ARGV[4] == 'new and old', dirty)
raise(dirty)
return left
