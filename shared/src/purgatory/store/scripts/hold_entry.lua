#!lua
-- Holds an event until its git data is here, or a related event behind one that it refers to. No allow-oom: a full Redis refuses it whole, before the first write.
--
-- KEYS: see common.lua.
-- ARGV: 1 event id, 2 event JSON, 3 kind, 4 author, 5 created_at, 6 coordinates (JSON array),
--       7 source, 8 hold-secs, 9 what the source counts by, 10 ids to extend (JSON array),
--       and at most: 11 bytes of the event, 12 entries and 13 bytes per author, 14 entries and 15 bytes per source,
--       16 entries per coordinate, 17 entries and 18 bytes in all, 19 entries of this author per coordinate,
--       20 pubkeys that an announcement lists as maintainers (JSON array),
--       and of a related event, which has no coordinates: 21 ids that it refers to (JSON array), 22 the last lease when these
--       were looked for, 23 "1": it may come before them, and then has 8 as its deadline
-- Returns: { how many of the ids to extend are done, text }, the text being one of
--          "held" | "already:<status it was found with>" | "deleted" | "replaced" | "full:event-bytes" |
--          "full:author" | "full:author-bytes" | "full:source" | "full:source-bytes" | "full:coordinate" | "full:share" |
--          "full:entries" | "full:bytes" | "full:behind" | "absent": what a related event refers to is not here, or may have
--          left since it was looked for.
--          All but the first two changed nothing.
-- Cost: O(coordinates), at most 16, and for each of a page of ids to extend, and of at most 200 pubkeys, or 100 ids.
-- Errors: OOM (Redis is at maxmemory).

local id = ARGV[1]
local entry = {
  status = 'held',
  kind = ARGV[3],
  author = ARGV[4],
  created_at = ARGV[5],
  coordinates = cjson.decode(ARGV[6]),
  bytes = decimal(#ARGV[2]),
  source_group = ARGV[9],
}
local deadline = NOW + tonumber(ARGV[8])
local dirty = {}
local others, extended = cjson.decode(ARGV[10]), 0

local function extend_others()
  while extended < #others and not is_enough() do
    extended = extended + 1
    extend_entry(others[extended], deadline, dirty)
  end
end

if is_deleted(id, entry) then
  return { 0, 'deleted' }
end

local found = find_entry(id)
if found then
  -- Written even if nothing else changes: WAIT confirms only what this connection wrote.
  redis.call('HSET', K.entry .. id, 'last_seen', decimal(NOW))
  -- It keeps its deadline unless that is past: what is overdue and not reconciled yet is held anew.
  if is_waiting(found) and (found.status == 'asleep' or found.deadline <= NOW) then
    extend_entry(id, deadline, dirty)
    extend_others()
  end
  note_changed(dirty, id, found)
  raise(dirty)
  return { extended, 'already:' .. found.status }
end

-- What a related event waits behind: the first that is here of those that it refers to, or what that waits behind itself.
local first_id, first
local after, after_json, waiting_for = {}, '[]', ''
if is_related(entry) then
  for _, other in ipairs(cjson.decode(ARGV[21])) do
    first_id = first_id or other
    local found_other = find_entry(other)
    if found_other then
      first_id, first, after = other, found_other, { other }
      if is_related(found_other) and is_waiting(found_other) then
        first_id = found_other.after[1]
        first, after = find_entry(first_id), { first_id, other }
      end
      break
    end
  end
  local is_early = ARGV[23] == '1' and ARGV[22] == (redis.call('GET', K.leases) or '0')
  if not first_id or not (first or is_early) then
    return { 0, 'absent' }
  end
  if #after == 0 then
    after = { first_id }
  end
  if first then
    deadline = math.max(is_waiting(first) and first.deadline or 0, NOW + tonumber(ARGV[8]))
  end
  entry.after, after_json, waiting_for = after, '["' .. table.concat(after, '","') .. '"]', 'event ' .. first_id
end

local old_id, old
if entry.kind == '30617' then
  old_id = redis.call('GET', announcement_key(entry.coordinates[1]))
  old = old_id and find_entry(old_id)
end
if old then
  local tie = entry.created_at == old.created_at
  if is_later(old.created_at, entry.created_at) or (tie and old_id < id) then
    return { 0, 'replaced' }
  end
end

local freed = old and 1 or 0
local freed_bytes = old and tonumber(old.bytes) or 0

-- Names the limit of one set that the event goes beyond: the entries' or the bytes'.
local function full_set(keys, is_old_in, entries_max, bytes_max, names)
  local entries = count(keys[1], keys[2])
  local bytes = tonumber(redis.call('GET', keys[2]) or '0')
  if is_old_in then
    entries, bytes = entries - freed, bytes - freed_bytes
  end
  if entries >= tonumber(entries_max) then
    return names[1]
  end
  if bytes + #ARGV[2] > tonumber(bytes_max) then
    return names[2]
  end
  return nil
end

-- What others hold for a repository takes nothing of the first K.share_kept_free entries that an author may have there.
local function full_coordinate()
  for _, coordinate in ipairs(entry.coordinates) do
    local own, share, all = entry.author, -freed, -freed
    for _, prefix in ipairs({ K.coordinate, K.pull_requests }) do
      local index = prefix .. in_key(coordinate)
      share = share + redis.call('ZLEXCOUNT', index, '[' .. own .. ':', '(' .. own .. ';')
      all = all + redis.call('ZCARD', index)
    end
    if share >= tonumber(ARGV[19]) then
      return 'share'
    end
    if share >= K.share_kept_free and all >= tonumber(ARGV[16]) then
      return 'coordinate'
    end
  end
  return nil
end

-- Strangers have a part of the places behind an event, each a few; the others are its author's and the repositories' owners'.
local function full_behind()
  if not is_related(entry) then
    return nil
  end
  local key, own = K.behind .. first_id, entry.author
  local is_stranger = not (first and first.author == own)
  for _, coordinate in ipairs(first and first.coordinates or {}) do
    is_stranger = is_stranger and string.sub(coordinate, 7, 70) ~= own
  end
  local room = K.behind_max - (is_stranger and K.behind_kept_free or 0)
  local share = redis.call('ZLEXCOUNT', key, '[' .. own .. ':', '(' .. own .. ';')
  if redis.call('ZCARD', key) >= room or (is_stranger and share >= K.behind_share_max) then
    return 'behind'
  end
end

if #ARGV[2] > tonumber(ARGV[11]) then
  return { 0, 'full:event-bytes' }
end
local sets = limit_sets(entry)
local same_source = old and old.source_group == entry.source_group
local full = full_set(sets.author, old, ARGV[12], ARGV[13], { 'author', 'author-bytes' })
  or full_set(sets.source, same_source, ARGV[14], ARGV[15], { 'source', 'source-bytes' })
  or full_coordinate()
  or full_behind()
  or full_set(sets.all, old, ARGV[17], ARGV[18], { 'entries', 'bytes' })
if full then
  return { 0, 'full:' .. full }
end

if old then
  remove_entry(old_id, old)
end
redis.call('HSET', K.entry .. id,
  'event', ARGV[2], 'kind', entry.kind, 'author', entry.author, 'coordinates', ARGV[6],
  'created_at', entry.created_at, 'status', 'held', 'source', ARGV[7],
  'source_group', entry.source_group, 'bytes', entry.bytes,
  'held_since', decimal(NOW), 'last_seen', decimal(NOW),
  'waiting_for', waiting_for, 'release_error', '', 'after', after_json, 'lease', '')
add_to_indices(id, entry)
if is_related(entry) then
  redis.call('ZADD', K.behind .. first_id, '0', entry.author .. ':' .. id)
  end_not_before(K.behind .. first_id, decimal(deadline + K.backstop_secs))
end
if entry.kind == '30617' then
  add_listings(entry.coordinates[1], cjson.decode(ARGV[20]), '1', dirty)
end
set_deadline(id, entry, deadline)
note_changed(dirty, id, entry)
extend_others()
raise(dirty)
return { extended, 'held' }
