#!lua flags=allow-oom
-- Reads the name of the epoch, and which server answers.
--
-- KEYS: see common.lua.
-- ARGV: none.
-- Returns: { name of the epoch, or an empty text: this Redis knows of none, the server's run id }.
-- Cost: O(1).
-- Errors: none of its own.

return { redis.call('GET', K.epoch) or '', run_id() }
