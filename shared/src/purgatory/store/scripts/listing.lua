#!lua flags=allow-oom
-- Returns the repositories whose announcements list the owner of one of these coordinates as a maintainer.
--
-- KEYS: see common.lua.
-- ARGV: 1 how many at most, then the coordinates
-- Returns: at most so many, and K.listed_max, of each coordinate those with a served announcement first.
-- Cost: O(1) for each coordinate that is given, at most K.listed_max, and for each that is returned.
-- Errors: none of its own.

local listing, most = {}, math.min(tonumber(ARGV[1]), K.listed_max)
for place = 2, #ARGV do
  local coordinate, room = ARGV[place], most - #listing
  if room == 0 then
    break
  end
  for _, owner in ipairs(redis.call('ZRANGE', K.listed_by .. in_key(coordinate), '0', decimal(room - 1))) do
    listing[#listing + 1] = '30617:' .. owner .. string.sub(coordinate, 71)
  end
end
return listing
