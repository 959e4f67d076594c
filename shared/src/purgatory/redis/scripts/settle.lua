#!lua flags=allow-oom
-- Records how an attempt to publish ended, for whoever has the lease.
--
-- KEYS: see common.lua.
-- ARGV: 1 event id, 2 lease, 3 "done" | "retry" | "stuck", 4 in how many seconds to try again, 5 what the relay said
--       (4 and 5 are unused with "done")
-- Returns: 1 settled, 0 nothing done: the lease is not the current one.
-- Errors: none of its own.

-- What only waited for the entry is due at once: take_due.lua has pushed it on by a second.
local function let_go_what_waited(id, names)
  for name in pairs(names) do
    for _, other in ipairs(redis.call('SMEMBERS', K.identifier .. encode(name))) do
      local time = tonumber(redis.call('ZSCORE', K.releasing, other) or '')
      local is_near = time and time > NOW and time <= NOW + 1
      if is_near and string.find(redis.call('HGET', K.entry .. other, 'after') or '', id, 1, true) then
        redis.call('ZADD', K.releasing, decimal(NOW), other)
      end
    end
  end
end

local id = ARGV[1]
if redis.call('HGET', K.entry .. id, 'lease') ~= ARGV[2] then
  return 0
end
if ARGV[3] == 'done' then
  local entry = find_entry(id)
  local names = {}
  add_all(names, entry.names)
  remove_entry(id, entry)
  let_go_what_waited(id, names)
  raise(names)
else
  local status = ARGV[3] == 'stuck' and 'stuck' or 'releasing'
  redis.call('HSET', K.entry .. id, 'status', status, 'release_error', ARGV[5], 'lease', '')
  redis.call('ZADD', K.releasing, decimal(NOW + tonumber(ARGV[4])), id)
end
return 1
