#!lua flags=allow-oom
-- Removes a placeholder unless it was replaced by a push of another commit. A gateway removes what is staged for it.
--
-- KEYS: see common.lua.
-- ARGV: 1 event id, 2 coordinate, 3 commit oid
-- Returns: 1 removed, 0 nothing done: no such placeholder, or of another commit.
-- Cost: O(1).
-- Errors: none of its own.

local tail = ARGV[1] .. ':' .. in_key(ARGV[2])
if redis.call('HGET', K.placeholder .. tail, 'commit_oid') ~= ARGV[3] then
  return 0
end
remove_placeholder(tail, ARGV[2])
ask_for_look(ARGV[1], { ARGV[2] })
return 1
