#!lua flags=allow-oom
-- Reports the settings of a program, and reads the last reports of both programs.
--
-- KEYS: see common.lua.
-- ARGV: 1 gateway or plugin, 2 its settings, or an empty text: only read, 3 for how many seconds the report is valid
-- Returns: { the report of a gateway, the report of a plugin }, as they were before; an empty text: none.
-- Cost: O(1).
-- Errors: none of its own.

local reported = { redis.call('GET', K.settings .. 'gateway') or '', redis.call('GET', K.settings .. 'plugin') or '' }
if ARGV[2] ~= '' then
  redis.call('SET', K.settings .. ARGV[1], ARGV[2], 'EX', ARGV[3])
end
return reported
