#!lua flags=allow-oom
-- Lists one page of what there is, for an operator. What is there from the first page to the last is in one of them, or in
-- several; what comes or goes meanwhile may be.
--
-- KEYS: see common.lua.
-- ARGV: 1 "deadlines" (what is held or asleep, and placeholders) | "releasing" (what is releasing or stuck),
--       2 the cursor, "0" at first
-- Returns: { the next cursor, "0": that was the last page,
--            ids of events,
--            { { event id, coordinate, commit oid, deadline }, ... } the placeholders }
-- Cost: O(1) for each of a page.
-- Errors: none of its own.

local scanned = redis.call('ZSCAN', K[ARGV[1]], ARGV[2], 'COUNT', K.page_max)
local ids, placeholders = {}, {}
for place = 1, #scanned[2], 2 do
  local member = scanned[2][place]
  -- As in `coordinates_of_deadline`.
  if #member == 64 then
    ids[#ids + 1] = member
  else
    local fields = redis.call('HMGET', K.placeholder .. member, 'event_id', 'coordinate', 'commit_oid', 'deadline')
    if fields[1] then
      placeholders[#placeholders + 1] = fields
    end
  end
end
return { scanned[1], ids, placeholders }
