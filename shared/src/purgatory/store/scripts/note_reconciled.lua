#!lua flags=allow-oom
-- Notes that PRs of a coordinate were reconciled, but for those that something has happened to since they were read.
--
-- KEYS: see common.lua.
-- ARGV: 1 coordinate, 2 the number of the last change when they were read (unreconciled_page.lua), then of each:
--       +1 member of K.looked_at, +2 the score read,
--       +3 "keep": something is staged for it | "drop": nothing is | "again": it is reconciled again, behind all others |
--         in how many seconds it is reconciled again, if it is held still, and "keep" of what is staged for it
-- Returns: 1: there is more to reconcile | 0: that was all.
-- Cost: O(1) for each of a page.
-- Errors: none of its own.

local coordinate, last_change = ARGV[1], ARGV[2]
local key = K.looked_at .. in_key(coordinate)

-- Whether Redis has what a member stands for: the entry of a PR, or any placeholder of an id.
local function is_here(member, id)
  if member ~= id then
    return redis.call('EXISTS', K.entry .. id) == 1
  end
  return redis.call('ZLEXCOUNT', K.placeholders_of .. in_key(coordinate), '[' .. id .. ':', '(' .. id .. ';') > 0
end

local function reconcile_again_in(id, secs)
  local member = limit_member(id, { bytes = event_bytes(id) })
  local at, due = NOW + secs, redis.call('ZSCORE', K.entries, member)
  if due and tonumber(due) > at then
    redis.call('ZADD', K.entries, decimal(at), member)
  end
end

for place = 3, #ARGV, 3 do
  local member, found = ARGV[place], ARGV[place + 2]
  local id = id_at_end(member)
  local score = redis.call('ZSCORE', key, member)
  if score and decimal(tonumber(score)) == ARGV[place + 1] then
    if found == 'again' then
      mark_unreconciled(member, { coordinate })
    elseif not is_here(member, id) and (found == 'drop' or member ~= id) then
      forget_looked_at(member, coordinate)
      redis.call('ZREM', K.pull_requests .. in_key(coordinate), member)
    else
      redis.call('ZADD', key, last_change, member)
      if tonumber(found) then
        reconcile_again_in(id, tonumber(found))
      end
    end
  end
end

local function is_any(min, max)
  return #redis.call('ZRANGE', key, min, max, 'BYSCORE', 'LIMIT', 0, 1) > 0
end

local round = redis.call('GET', K.round .. in_key(coordinate))
if is_any('-inf', '(0') or round and is_any('0', '(' .. round) then
  -- Behind the other coordinates.
  redis.call('ZADD', K.dirty_pull_requests, decimal(next_number(K.changes)), coordinate)
  wake()
  return 1
end
redis.call('ZREM', K.dirty_pull_requests, coordinate)
return 0
