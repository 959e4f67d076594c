#!lua flags=allow-oom
-- Ends an entry whose deadline is past, or lets it sleep.
--
-- KEYS: see common.lua.
-- ARGV: 1 event id, 2 "gone" | "sleep", 3 for how long it sleeps, in seconds (unused with "gone")
-- Returns: 1 done, 0 nothing done: no such entry, releasing, not past, or asleep and to be put to sleep.
-- Cost: O(coordinates), at most 16, and of an announcement at most K.page_max pubkeys that are listed.
-- Errors: none of its own.

local id = ARGV[1]
local entry = find_entry(id)
if not entry or not is_waiting(entry) or entry.deadline > NOW then
  return 0
end
if ARGV[2] == 'gone' then
  remove_entry(id, entry)
  return 1
end
if entry.status == 'asleep' then
  return 0
end
set_fields(id, 'status', 'asleep')
set_deadline(id, entry, NOW + tonumber(ARGV[3]))
return 1
