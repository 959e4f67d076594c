#!lua flags=allow-oom
-- Reads a few entries by their ids.
--
-- KEYS: see common.lua.
-- ARGV: event ids
-- Returns: of each that there is the fields of `entry_fields` (common.lua).
-- Cost: O(bytes of the entries); the caller gives at most a few.
-- Errors: none of its own.

local entries = {}
for _, id in ipairs(ARGV) do
  local fields = entry_fields(id)
  if fields[1] then
    entries[#entries + 1] = fields
  end
end
return entries
