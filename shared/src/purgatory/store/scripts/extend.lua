#!lua flags=allow-oom
-- Holds entries longer, and wakes sleeping ones.
--
-- KEYS: see common.lua.
-- ARGV: 1 hold-secs, then event ids
-- Returns: how many of them are held now.
-- Errors: none of its own.

local extended, woken = 0, {}
for place = 2, #ARGV do
  if extend_entry(ARGV[place], NOW + tonumber(ARGV[1]), woken) then
    extended = extended + 1
  end
end
raise(woken)
return extended
