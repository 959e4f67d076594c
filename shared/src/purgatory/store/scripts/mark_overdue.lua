#!lua flags=allow-oom
-- Has what is past its deadline reconciled, and reads it again only after a while. Nothing expires here,
-- and nothing ends by itself as long as a gateway calls this: the backstop counts from the last call.
--
-- KEYS: see common.lua.
-- ARGV: 1 how many at most (no more than K.page_max), 2 recheck-secs
-- Returns: how many entries and placeholders were found overdue.
-- Cost: O(coordinates) for each of a page.
-- Errors: none of its own.

local function keep(member)
  local ends = decimal(NOW + K.backstop_secs)
  if #member ~= 64 then
    local coordinate = redis.call('HGET', K.placeholder .. member, 'coordinate')
    end_not_before(K.placeholder .. member, ends)
    end_not_before(K.placeholders_of .. in_key(coordinate), ends)
    return
  end
  local entry = find_entry(member)
  end_not_before(K.entry .. member, ends)
  if entry.kind == '30617' then
    for _, coordinate in ipairs(entry.coordinates) do
      end_not_before(announcement_key(coordinate), ends)
    end
  end
end

local overdue, coordinates = 0, {}
local count_max = math.min(tonumber(ARGV[1]), K.page_max)
local past = redis.call('ZRANGE', K.deadlines, '-inf', decimal(NOW), 'BYSCORE', 'LIMIT', 0, count_max)
for _, member in ipairs(past) do
  if is_enough() then
    break
  end
  local deadline = note_due(coordinates, member)
  if deadline then
    -- The deadline is ahead of one that was to be looked at again before (note_looked.lua).
    redis.call('ZADD', K.deadlines, decimal(math.max(deadline, NOW + tonumber(ARGV[2]))), member)
    keep(member)
    overdue = overdue + 1
  else
    redis.call('ZREM', K.deadlines, member)
  end
end
raise(coordinates)
return overdue
