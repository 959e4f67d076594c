#!lua flags=allow-oom
-- Reads which PRs of a coordinate have to be reconciled: one page of those that something has happened to, and one of those
-- that were not reconciled since something has happened to the repository.
--
-- KEYS: see common.lua.
-- ARGV: 1 coordinate
-- Returns: { the number of the last change, { { member of K.looked_at, its score }, ... } }
-- Cost: O(members), at most 2 * K.unreconciled_page_max.
-- Errors: none of its own.

local key, page = K.looked_at .. in_key(ARGV[1]), {}

local function add(min, max)
  for _, member in ipairs(redis.call('ZRANGE', key, min, max, 'BYSCORE', 'LIMIT', 0, K.unreconciled_page_max)) do
    page[#page + 1] = { member, decimal(tonumber(redis.call('ZSCORE', key, member))) }
  end
end

add('-inf', '(0')
local round = redis.call('GET', K.round .. in_key(ARGV[1]))
if round then
  add('0', '(' .. round)
end
return { redis.call('GET', K.changes) or '0', page }
