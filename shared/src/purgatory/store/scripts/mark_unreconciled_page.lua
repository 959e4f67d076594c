#!lua flags=allow-oom
-- Has one page of events reconciled, with what is staged for them in a repository: PRs that are here or not.
--
-- KEYS: see common.lua.
-- ARGV: 1 coordinate, then the event ids
-- Returns: how many.
-- Cost: O(ids); the caller gives at most a page.
-- Errors: none of its own.

for place = 2, #ARGV do
  mark_unreconciled(ARGV[place], { ARGV[1] })
end
return #ARGV - 1
