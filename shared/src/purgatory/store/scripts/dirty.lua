#!lua flags=allow-oom
-- Lists dirty identifiers, the oldest change first.
--
-- KEYS: see common.lua.
-- ARGV: 1 how many at most
-- Returns: { { identifier, dirty number }, ... }.
-- Errors: none of its own.

local dirty = {}
for _, name in ipairs(redis.call('ZRANGE', K.dirty, '-inf', '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[1])) do
  dirty[#dirty + 1] = { name, tonumber(redis.call('ZSCORE', K.dirty, name)) }
end
return dirty
