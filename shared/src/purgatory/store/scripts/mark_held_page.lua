#!lua flags=allow-oom
-- Raises the dirty numbers of everything that is held or asleep, or has a placeholder, one page of it.
--
-- KEYS: see common.lua.
-- ARGV: 1 the cursor, "0" at first
-- Returns: the cursor of the next page; "0": that was the last.
-- Errors: none of its own.

local page = redis.call('ZSCAN', K.deadlines, ARGV[1], 'COUNT', K.scanned_max)
local names = {}
for place = 1, #page[2], 2 do
  add_all(names, names_of_deadline(page[2][place]) or {})
end
raise(names)
return page[1]
