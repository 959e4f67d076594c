#!lua flags=allow-oom
-- Notes whom the announcements of a coordinate list as maintainers, in place of what was noted before, of which one page is taken
-- off. What is new raises the dirty numbers of those of these coordinates that are dirty.
--
-- KEYS: see common.lua.
-- ARGV: 1 coordinate, 2 the pubkeys that a served announcement lists, 3 those that only held ones list (JSON arrays)
-- Returns: how many were taken off: fewer than K.listed_max if these were all.
-- Cost: O(pubkeys), 400 noted before, and at most 200 of each kind.
-- Errors: none of its own.

local coordinate, served, held = ARGV[1], cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local ranks, dirty = {}, {}
for _, pubkey in ipairs(held) do
  ranks[pubkey] = '1'
end
for _, pubkey in ipairs(served) do
  ranks[pubkey] = '0'
end
local gone = take_listings_off(coordinate, ranks, true)
add_listings(coordinate, served, '0', dirty)
add_listings(coordinate, held, '1', dirty)
raise(dirty)
return gone
