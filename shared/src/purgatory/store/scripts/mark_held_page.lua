#!lua flags=allow-oom
-- Has everything reconciled that is held or asleep, or has a placeholder, one page of it.
--
-- KEYS: see common.lua.
-- ARGV: 1 the cursor, "0" at first, 2 the last that was marked of what stands at the cursor, empty if none was
-- Returns: { ARGV 1 and 2 of the next page }; "0" and empty: that was the last.
-- Cost: O(coordinates) for each of a page.
-- Errors: none of its own.

local set, members, cursor = scan_waiting(ARGV[1])
local first = 1
for place, member in ipairs(members) do
  if member == ARGV[2] then
    first = place + 1
  end
end

-- What has left meanwhile is no place to continue from: then all of it is marked, some of it again.
local coordinates, last = {}, ''
for place = first, #members do
  if is_enough() then
    cursor = ARGV[1]
    break
  end
  note_due(coordinates, set, members[place])
  last = members[place]
end
raise(coordinates)
return { cursor, cursor == ARGV[1] and last or '' }
