#!lua flags=allow-oom
-- Removes the placeholder of a commit. A gateway removes what is staged for it.
--
-- KEYS: see common.lua.
-- ARGV: 1 event id, 2 coordinate, 3 commit oid
-- Returns: 1 removed, 0 nothing done: no such placeholder.
-- Cost: O(1).
-- Errors: none of its own.

local tail = find_placeholder(ARGV[1], ARGV[2], ARGV[3])
if not tail then
  return 0
end
remove_placeholder(tail, ARGV[2])
mark_unreconciled(ARGV[1], { ARGV[2] })
return 1
