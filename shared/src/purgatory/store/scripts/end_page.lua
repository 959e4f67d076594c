#!lua flags=allow-oom
-- Removes one page of entries that were superseded or de-listed; releasing ones stay.
--
-- KEYS: see common.lua.
-- ARGV: event ids
-- Returns: { how many were removed, how many of the ids are done }.
-- Cost: O(coordinates) for each of a page, in which each pubkey that an announcement lists counts too.
-- Errors: none of its own.

local ended, done = 0, 0
while done < #ARGV and not is_enough() do
  done = done + 1
  local id = ARGV[done]
  local entry = find_entry(id)
  if entry and is_waiting(entry) then
    remove_entry(id, entry)
    ended = ended + 1
  end
end
return { ended, done }
