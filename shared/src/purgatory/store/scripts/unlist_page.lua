#!lua flags=allow-oom
-- Takes off the index of listings, one page of it, what removed announcements have listed (`still_listed` in common.lua). Not
-- where another one waits by now: a reconcile notes whom that lists, and nobody else.
--
-- KEYS: see common.lua.
-- ARGV: coordinates
-- Returns: those of which more is left.
-- Cost: O(1) for each coordinate, and of all at most 2 * K.page_max pubkeys that are listed.
-- Errors: none of its own.

for _, coordinate in ipairs(ARGV) do
  if is_enough() then
    add_all(still_listed, { coordinate })
  elseif not waiting_announcement(coordinate) then
    unlist(coordinate)
  end
end
return still_listed
