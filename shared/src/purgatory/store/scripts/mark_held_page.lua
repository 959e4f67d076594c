#!lua flags=allow-oom
-- Has everything reconciled that is held or asleep, or has a placeholder, one page of it.
--
-- KEYS: see common.lua.
-- ARGV: 1 the cursor, "0" at first, 2 the last that was marked of what stands at the cursor, empty if none was
-- Returns: { ARGV 1 and 2 of the next page }; "0" and empty: that was the last.
-- Cost: O(coordinates) for each of a page.
-- Errors: none of its own.

local scanned = redis.call('ZSCAN', K.deadlines, ARGV[1], 'COUNT', K.page_max)
local members, first = scanned[2], 1
for place = 1, #members, 2 do
  if members[place] == ARGV[2] then
    first = place + 2
  end
end

-- What has left meanwhile is no place to continue from: then all of it is marked, some of it again.
local coordinates, cursor, last = {}, scanned[1], ''
for place = first, #members, 2 do
  if is_enough() then
    cursor = ARGV[1]
    break
  end
  note_due(coordinates, members[place])
  last = members[place]
end
raise(coordinates)
return { cursor, cursor == ARGV[1] and last or '' }
