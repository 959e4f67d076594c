#!lua flags=allow-oom
-- Has everything reconciled that is held or asleep, or has a placeholder, one page of it.
--
-- KEYS: see common.lua.
-- ARGV: 1 the cursor, "0" at first, 2 what is left of the page before it, empty if nothing is: its key and its members
-- Returns: { ARGV 1 and 2 of the next call }; "0" and empty: that was the last.
-- Cost: O(coordinates) for each of a page.
-- Errors: none of its own.

local set, members, cursor = nil, {}, ARGV[1]
if ARGV[2] == '' then
  set, members, cursor = scan_waiting(cursor)
else
  -- A page is scanned once: scanned again, it may have other members, and the same ones in another order.
  for word in string.gmatch(ARGV[2], '%S+') do
    members[#members + 1] = word
  end
  set = table.remove(members, 1)
end
local coordinates, left = {}, { set }
for _, member in ipairs(members) do
  if is_enough() then
    left[#left + 1] = member
  else
    note_due(coordinates, set, member)
  end
end
raise(coordinates)
return { cursor, #left > 1 and table.concat(left, ' ') or '' }
