#!lua flags=allow-oom
-- Has what is past its deadline reconciled, and reads it again only after a while. Nothing expires here but related events
-- whose PR never came, and nothing ends by itself as long as a gateway calls this: the backstop counts from the last call.
--
-- KEYS: see common.lua.
-- ARGV: 1 how many at most (no more than K.page_max), 2 recheck-secs
-- Returns: how many entries and placeholders were found overdue.
-- Cost: O(coordinates) for each of a page.
-- Errors: none of its own.

local function keep(set, member)
  local ends = decimal(NOW + K.backstop_secs)
  if set == K.placeholders then
    local coordinate = redis.call('HGET', K.placeholder .. member, 'coordinate')
    end_not_before(K.placeholder .. member, ends)
    end_not_before(K.placeholders_of .. in_key(coordinate), ends)
    return
  end
  local entry = find_entry(id_of(member))
  end_not_before(K.entry .. id_of(member), ends)
  if entry.kind == '30617' then
    for _, coordinate in ipairs(entry.coordinates) do
      end_not_before(announcement_key(coordinate), ends)
    end
  end
end

-- A related event waits as long as what it waits behind. Returns whether it is one.
local function follow(id)
  local entry = find_entry(id)
  if not entry or not is_related(entry) then
    return false
  end
  local deadline, is_any_here = NOW + tonumber(ARGV[2]), false
  for _, other in ipairs(ids_before(id, entry)) do
    local first = find_entry(other)
    if first then
      is_any_here = true
      deadline = is_waiting(first) and math.max(deadline, first.deadline) or deadline
      end_not_before(K.behind .. other, decimal(NOW + K.backstop_secs))
    end
  end
  if is_any_here then
    set_deadline(id, entry, deadline)
  else
    remove_entry(id, entry)
  end
  return true
end

-- Has a member reconciled, and returns whether it has not vanished.
local function mark(coordinates, set, member)
  if set == K.entries and follow(id_of(member)) then
    return true
  end
  local deadline = note_due(coordinates, set, member)
  if not deadline then
    forget_members(set, set == K.entries and K.bytes, { member })
    return false
  end
  -- The deadline is ahead of one that was to be reconciled again before (note_reconciled.lua).
  redis.call('ZADD', set, decimal(math.max(deadline, NOW + tonumber(ARGV[2]))), member)
  keep(set, member)
  return true
end

-- Earlier versions kept deadlines beside the sets of the limits, in which a member could be missing, or due later. Has a due
-- one found in those.
local function move_from_deadlines(member)
  -- An event id has 64 digits; the tail of a placeholder's key begins with one and goes on.
  local entry = #member == 64 and find_entry(member)
  if entry and is_waiting(entry) then
    if redis.call('ZADD', K.entries, 'LT', decimal(NOW), limit_member(member, entry)) == 1 then
      redis.call('INCRBY', K.bytes, entry.bytes)
    end
  elseif #member > 64 and redis.call('EXISTS', K.placeholder .. member) == 1 then
    redis.call('ZADD', K.placeholders, 'LT', decimal(NOW), member)
  end
  redis.call('ZREM', K.deadlines, member)
end

local overdue, coordinates = 0, {}
local count_max = math.min(tonumber(ARGV[1]), K.page_max)
for _, member in ipairs(redis.call('ZRANGE', K.deadlines, '-inf', decimal(NOW), 'BYSCORE', 'LIMIT', 0, count_max)) do
  if is_enough() then
    break
  end
  move_from_deadlines(member)
end
-- Placeholders first, which cost little, and never more than half: so neither starves behind many of the other.
for _, set in ipairs({ K.placeholders, K.entries }) do
  local of_set = set == K.placeholders and math.ceil(count_max / 2) or count_max
  for _, member in ipairs(redis.call('ZRANGE', set, '-inf', decimal(NOW), 'BYSCORE', 'LIMIT', 0, of_set)) do
    if overdue >= count_max or is_enough() then
      break
    end
    if mark(coordinates, set, member) then
      overdue = overdue + 1
    end
  end
end
raise(coordinates)
return overdue
