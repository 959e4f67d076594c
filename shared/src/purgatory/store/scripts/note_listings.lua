#!lua flags=allow-oom
-- Notes whom the announcements of a coordinate list as maintainers, in place of what was noted before. What is new raises the
-- dirty numbers of those of these coordinates that are dirty.
--
-- KEYS: see common.lua.
-- ARGV: 1 coordinate, 2 "0": one of them is served | "1": none is, 3 the pubkeys (JSON array)
-- Returns: how many were noted before and are not listed any more.
-- Cost: O(pubkeys), noted before and now, at most 200 each.
-- Errors: none of its own.

local coordinate, pubkeys, listed = ARGV[1], cjson.decode(ARGV[3]), {}
add_all(listed, pubkeys)
local noted, gone = K.lists .. in_key(coordinate), 0
local owner, identifier = string.sub(coordinate, 7, 70), encode(string.sub(coordinate, 72))
for _, pubkey in ipairs(redis.call('ZRANGE', noted, '-', '+', 'BYLEX', 'LIMIT', 0, 2 * K.listed_max)) do
  local key = K.listed_by .. pubkey .. ':' .. identifier
  if listed[pubkey] then
    redis.call('ZADD', key, ARGV[2], owner)
  else
    redis.call('ZREM', noted, pubkey)
    redis.call('ZREM', key, owner)
    gone = gone + 1
  end
end
local dirty = {}
add_listings(coordinate, pubkeys, ARGV[2], dirty)
raise(dirty)
return gone
