#!lua flags=allow-oom
-- Removes entries that were superseded or de-listed; releasing ones stay.
--
-- KEYS: see common.lua.
-- ARGV: event ids
-- Returns: how many were removed.
-- Errors: none of its own.

local ended = 0
for _, id in ipairs(ARGV) do
  local entry = find_entry(id)
  if entry and is_waiting(entry) then
    remove_entry(id, entry)
    ended = ended + 1
  end
end
return ended
