#!lua flags=allow-oom
-- Notes what entries wait for, for operators.
--
-- KEYS: see common.lua.
-- ARGV: pairs of event id and text
-- Returns: how many notes changed.
-- Cost: O(bytes of the notes); the caller gives at most a page.
-- Errors: none of its own.

local noted = 0
for place = 1, #ARGV, 2 do
  local old = redis.call('HMGET', K.entry .. ARGV[place], 'status', 'waiting_for')
  if old[1] and (old[2] or '') ~= ARGV[place + 1] then
    set_fields(ARGV[place], 'waiting_for', ARGV[place + 1])
    noted = noted + 1
  end
end
return noted
