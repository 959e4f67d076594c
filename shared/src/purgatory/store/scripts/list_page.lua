#!lua flags=allow-oom
-- Lists one page of what there is, for an operator. What is there from the first page to the last is in one of them, or in
-- several; what comes or goes meanwhile may be.
--
-- KEYS: see common.lua.
-- ARGV: 1 "waiting" (what is held or asleep, and placeholders) | "releasing" (what is releasing or stuck),
--       2 the cursor, "0" at first
-- Returns: { the next cursor, "0": that was the last page,
--            ids of events,
--            { { event id, coordinate, commit oid, deadline }, ... } the placeholders }
-- Cost: O(1) for each of a page.
-- Errors: none of its own.

local ids, placeholders, cursor = {}, {}, ''
if ARGV[1] == 'waiting' then
  local set, members
  set, members, cursor = scan_waiting(ARGV[2])
  for _, member in ipairs(members) do
    local fields = set == K.placeholders
      and redis.call('HMGET', K.placeholder .. member, 'event_id', 'coordinate', 'commit_oid', 'deadline')
    if fields and fields[1] then
      placeholders[#placeholders + 1] = fields
    elseif not fields then
      ids[#ids + 1] = id_of(member)
    end
  end
else
  local scanned = redis.call('ZSCAN', K.releasing, ARGV[2], 'COUNT', K.page_max)
  cursor = scanned[1]
  for place = 1, #scanned[2], 2 do
    ids[#ids + 1] = scanned[2][place]
  end
end
return { cursor, ids, placeholders }
