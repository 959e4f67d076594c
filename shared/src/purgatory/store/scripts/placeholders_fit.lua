#!lua flags=allow-oom
-- Whether there is a place for PR commits that are pushed before their events; a commit that has a placeholder needs none.
--
-- KEYS: see common.lua.
-- ARGV: 1 coordinate, 2 what the source counts by, empty if it does not, 3 placeholders at most, 4 at most of this
--       repository, 5 at most from this source, then of each commit: +1 event id, +2 commit oid
-- Returns: "recorded" if there is a place for all that are not recorded yet, or "full" | "full:source", see common.lua.
-- Cost: O(commits), at most as many as one push may bring.
-- Errors: none of its own.

local added = 0
for place = 6, #ARGV, 2 do
  if not find_placeholder(ARGV[place], ARGV[1], ARGV[place + 1]) then
    added = added + 1
  end
end
return placeholders_full(added, ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]) or 'recorded'
