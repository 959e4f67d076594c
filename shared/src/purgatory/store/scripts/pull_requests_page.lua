#!lua flags=allow-oom
-- Lists one page of the PRs of a coordinate, in any status, for an operator.
--
-- KEYS: see common.lua.
-- ARGV: 1 coordinate, 2 the member after which the page begins, "" at first
-- Returns: members of K.pull_requests; none: there are no more.
-- Cost: O(1) for each of a page.
-- Errors: none of its own.

local first = ARGV[2] == '' and '-' or '(' .. ARGV[2]
return redis.call('ZRANGE', K.pull_requests .. in_key(ARGV[1]), first, '+', 'BYLEX', 'LIMIT', 0, K.page_max)
