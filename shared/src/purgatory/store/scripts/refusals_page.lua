#!lua flags=allow-oom
-- Returns one page of what was refused, the latest first.
--
-- KEYS: see common.lua.
-- ARGV: 1 how many later ones were returned before
-- Returns: { { time in microseconds, the refusal, JSON }, ... }; fewer than K.page_max: there are no more
-- Cost: O(1) for each of a page.
-- Errors: none of its own.

local last = redis.call('ZCARD', K.refusals) - 1 - tonumber(ARGV[1])
local refusals = {}
if last < 0 then
  return refusals
end
local first = math.max(last - K.page_max + 1, 0)
local members = redis.call('ZRANGE', K.refusals, decimal(first), decimal(last))
for place = #members, 1, -1 do
  refusals[#refusals + 1] = { redis.call('ZSCORE', K.refusals, members[place]), members[place] }
end
return refusals
