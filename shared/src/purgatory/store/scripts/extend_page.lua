#!lua flags=allow-oom
-- Holds one page of entries longer, and wakes sleeping ones.
--
-- KEYS: see common.lua.
-- ARGV: 1 hold-secs, then event ids
-- Returns: { how many of them are held now, how many of the ids are done }.
-- Cost: O(coordinates) for each of a page.
-- Errors: none of its own.

local extended, done, woken = 0, 0, {}
while done < #ARGV - 1 and not is_enough() do
  done = done + 1
  if extend_entry(ARGV[1 + done], NOW + tonumber(ARGV[1]), woken) then
    extended = extended + 1
  end
end
raise(woken)
return { extended, done }
