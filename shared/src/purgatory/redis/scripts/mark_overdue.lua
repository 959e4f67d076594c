#!lua flags=allow-oom
-- Raises the dirty numbers of what is past its deadline, and reads it again only after a while. Nothing expires here.
--
-- KEYS: see common.lua.
-- ARGV: 1 how many at most, 2 recheck-secs
-- Returns: how many entries and placeholders were found overdue.
-- Errors: none of its own.

local overdue, names = 0, {}
for _, member in ipairs(redis.call('ZRANGE', K.deadlines, '-inf', decimal(NOW), 'BYSCORE', 'LIMIT', 0, ARGV[1])) do
  local found = names_of_deadline(member)
  if found then
    redis.call('ZADD', K.deadlines, decimal(NOW + tonumber(ARGV[2])), member)
    add_all(names, found)
    overdue = overdue + 1
  else
    redis.call('ZREM', K.deadlines, member)
  end
end
raise(names)
return overdue
