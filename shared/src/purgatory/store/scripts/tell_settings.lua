#!lua flags=allow-oom
-- Tells what a program runs with, and reads what both have told.
--
-- KEYS: see common.lua.
-- ARGV: 1 gateway or plugin, 2 what it runs with, or an empty text: only read, 3 seconds for which that is believed
-- Returns: { what a gateway has told, what a plugin has told }, as it was before; an empty text: nothing.
-- Cost: O(1).
-- Errors: none of its own.

local told = { redis.call('GET', K.settings .. 'gateway') or '', redis.call('GET', K.settings .. 'plugin') or '' }
if ARGV[2] ~= '' then
  redis.call('SET', K.settings .. ARGV[1], ARGV[2], 'EX', ARGV[3])
end
return told
