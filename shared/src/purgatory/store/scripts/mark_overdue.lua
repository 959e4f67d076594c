#!lua flags=allow-oom
-- Has what is past its deadline reconciled, and reads it again only after a while. Nothing expires here but related events
-- whose PR never came, and nothing ends by itself as long as a gateway calls this: the backstop counts from the last call.
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

-- A related event waits as long as what it waits behind. Returns whether it is one.
local function follow(member)
  local entry = #member == 64 and find_entry(member)
  if not entry or not is_related(entry) then
    return false
  end
  local deadline, is_any_here = NOW + tonumber(ARGV[2]), false
  for _, other in ipairs(ids_before(member, entry)) do
    local first = find_entry(other)
    if first then
      is_any_here = true
      deadline = is_waiting(first) and math.max(deadline, first.deadline) or deadline
      end_not_before(K.behind .. other, decimal(NOW + K.backstop_secs))
    end
  end
  if is_any_here then
    set_deadline(member, entry, deadline)
  else
    remove_entry(member, entry)
  end
  return true
end

local overdue, coordinates = 0, {}
local count_max = math.min(tonumber(ARGV[1]), K.page_max)
local past = redis.call('ZRANGE', K.deadlines, '-inf', decimal(NOW), 'BYSCORE', 'LIMIT', 0, count_max)
for _, member in ipairs(past) do
  if is_enough() then
    break
  end
  local is_related = follow(member)
  local deadline = not is_related and note_due(coordinates, member)
  if deadline then
    -- The deadline is ahead of one that was to be looked at again before (note_looked.lua).
    redis.call('ZADD', K.deadlines, decimal(math.max(deadline, NOW + tonumber(ARGV[2]))), member)
    keep(member)
  elseif not is_related then
    redis.call('ZREM', K.deadlines, member)
  end
  if is_related or deadline then
    overdue = overdue + 1
  end
end
raise(coordinates)
return overdue
