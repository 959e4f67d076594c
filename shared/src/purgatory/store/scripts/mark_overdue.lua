#!lua flags=allow-oom
-- Raises the dirty numbers of what is past its deadline, and reads it again only after a while. Nothing expires here,
-- and nothing ends by itself as long as a gateway calls this: the backstop counts from the last call.
--
-- KEYS: see common.lua.
-- ARGV: 1 how many at most (no more than K.page_max), 2 recheck-secs
-- Returns: how many entries and placeholders were found overdue.
-- Cost: O(identifiers) for each of a page.
-- Errors: none of its own.

local function keep(member)
  local ends = decimal(NOW + K.backstop_secs)
  if #member ~= 64 then
    local name = redis.call('HGET', K.placeholder .. member, 'identifier')
    end_not_before(K.placeholder .. member, ends)
    end_not_before(K.placeholders_of .. encode(name), ends)
    return
  end
  local entry = find_entry(member)
  end_not_before(K.entry .. member, ends)
  if entry.kind == '30617' then
    for _, name in ipairs(entry.names) do
      end_not_before(announcement_key(entry, name), ends)
    end
  end
end

local overdue, names = 0, {}
local count_max = math.min(tonumber(ARGV[1]), K.page_max)
local past = redis.call('ZRANGE', K.deadlines, '-inf', decimal(NOW), 'BYSCORE', 'LIMIT', 0, count_max)
for _, member in ipairs(past) do
  if is_enough() then
    break
  end
  local found = names_of_deadline(member)
  if found then
    redis.call('ZADD', K.deadlines, decimal(NOW + tonumber(ARGV[2])), member)
    keep(member)
    add_all(names, found)
    overdue = overdue + 1
  else
    redis.call('ZREM', K.deadlines, member)
  end
end
raise(names)
return overdue
