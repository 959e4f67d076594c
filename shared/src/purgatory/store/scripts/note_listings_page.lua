#!lua flags=allow-oom
-- Notes whom the announcements of a coordinate list as maintainers, in place of what was noted before: one page of what differs,
-- first what is new. That raises the dirty numbers of those of these coordinates that are dirty.
--
-- KEYS: see common.lua.
-- ARGV: 1 coordinate, 2 the pubkeys that a served announcement lists, 3 those that only held ones list (JSON arrays)
-- Returns: { how many were changed: fewer than K.page_max if these were all, how many of them were taken off }
-- Cost: O(pubkeys), at most 200 of each kind, and 800 noted before; of these at most K.page_max change.
-- Errors: none of its own.

local coordinate, left = ARGV[1], K.page_max
local noted, dirty, gone = {}, {}, {}
for _, rank in ipairs({ '0', '1' }) do
  for _, pubkey in ipairs(noted_listings(coordinate, rank, 2 * K.listed_max)) do
    noted[pubkey] = true
  end
end

-- Returns those that are not noted with this rank, as many as this page has room for, and leaves in `noted` what is not listed.
local function not_noted(pubkeys, rank)
  local found = {}
  -- Not by `noted`: that may be a part of what is noted.
  local ranks = #pubkeys > 0 and redis.call('ZMSCORE', K.lists .. in_key(coordinate), unpack(pubkeys))
  for place, pubkey in ipairs(pubkeys) do
    if ranks[place] ~= rank and left > 0 then
      found[#found + 1] = pubkey
      left = left - 1
    end
    noted[pubkey] = nil
  end
  return found
end

add_listings(coordinate, not_noted(cjson.decode(ARGV[2]), '0'), '0', true, dirty)
add_listings(coordinate, not_noted(cjson.decode(ARGV[3]), '1'), '1', true, dirty)
for pubkey in pairs(noted) do
  if left > 0 then
    gone[#gone + 1] = pubkey
    left = left - 1
  end
end
take_listings_off(coordinate, gone)
raise(dirty)
return { K.page_max - left, #gone }
