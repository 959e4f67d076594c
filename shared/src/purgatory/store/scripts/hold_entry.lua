#!lua
-- Holds an event until its git data is here, or a related event behind one that it refers to. No allow-oom: a full Redis refuses it whole, before the first write.
--
-- KEYS: see common.lua.
-- ARGV: 1 event id, 2 event JSON, 3 kind, 4 author, 5 created_at, 6 coordinates (JSON array),
--       7 source, 8 hold-secs, 9 what the source counts by, 10 ids to extend (JSON array),
--       and at most: 11 bytes of the event, 12 entries and 13 bytes per author, 14 entries and 15 bytes per source,
--       16 entries per coordinate, 17 entries and 18 bytes in all, 19 entries of this author per coordinate, 20 bytes of the
--       announcements of a coordinate,
--       21 pubkeys that an announcement lists as maintainers (JSON array), 22 of an announcement of a repository that is not
--       served here: how many of these one source may send at once, and again in each day; otherwise
--       empty,
--       and of a related event, which has no coordinates: 23 ids that it refers to (JSON array), 24 the last lease when these
--       were looked for, 25 "1": it may come before them, and then has 8 as its deadline
-- Returns: { how many of the ids to extend are done, text, what is left to do for whom an announcement lists
--          (follow_listings in common.lua) }, the text being one of
--          "held" | "already:<status it was found with>" | "deleted" | "replaced" | "full:event-bytes" |
--          "full:author" | "full:author-bytes" | "full:source" | "full:source-bytes" | "full:new-repositories" |
--          "full:coordinate" | "full:share" | "full:entries" | "full:bytes" | "full:behind" | "absent": what a related event
--          refers to is not here, or may have left since it was looked for.
--          All but the first two changed nothing.
-- Cost: O(coordinates), at most 16, and for each of a page of ids to extend; of an announcement O(1) for each of at most 200
--       pubkeys and the 800 that are noted, of which at most K.page_max change; of a related event
--       O(100 ids), and O(K.after_max) for each of at most K.behind_read_max that wait behind it.
-- Errors: OOM (Redis is at maxmemory).

local DAY_MICROS = 24 * 60 * 60 * 1000000

local id = ARGV[1]
local entry = {
  status = 'held',
  kind = ARGV[3],
  author = ARGV[4],
  created_at = ARGV[5],
  coordinates = cjson.decode(ARGV[6]),
  source_group = ARGV[9],
}
-- What the limits count: its JSON, and what the index of listings takes for it.
local listed, bytes = {}, #ARGV[2]
if entry.kind == '30617' then
  add_all(listed, cjson.decode(ARGV[21]))
  bytes = bytes + #listed * (K.listing_bytes + 2 * #own_prefix(entry.coordinates[1]))
end
entry.bytes = decimal(bytes)
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
  return { 0, 'deleted', '' }
end

local found = find_entry(id)
if found then
  -- Written even if nothing else changes: WAIT confirms only what this connection wrote.
  set_fields(id, 'last_seen', decimal(NOW))
  -- It keeps its deadline unless that is past: what is overdue and not reconciled yet is held anew.
  local is_renewed = is_waiting(found) and (found.status == 'asleep' or found.deadline <= NOW)
  if is_renewed then
    extend_entry(id, deadline, dirty)
    extend_others()
  end
  -- A PR has a mark already, or what completes it brings one: strangers may send theirs again and again, and have others wait.
  if is_renewed or not is_pull_request(found) then
    note_changed(dirty, id, found)
  end
  -- Who has held it may have died before all that it lists was noted.
  local left = entry.kind == '30617' and is_waiting(found) and follow_listings(entry.coordinates[1], listed, true, dirty) or ''
  raise(dirty)
  return { extended, 'already:' .. found.status, left }
end

-- Of a related event: what it may wait behind, and `earlier` ones, which wait behind that too, and are only published
-- before it. So nothing waits behind what waits behind another event, however long a thread is.
local firsts, earlier = {}, {}
if is_related(entry) then
  local refers_to = cjson.decode(ARGV[23])
  for _, other in ipairs(refers_to) do
    local found_other = #firsts + #earlier < K.after_max and find_entry(other)
    if found_other and is_related(found_other) and is_waiting(found_other) then
      add_all(firsts, ids_before(other, found_other))
      add_all(earlier, { other })
    elseif found_other then
      add_all(firsts, { other })
    end
  end
  if #firsts == 0 and ARGV[25] == '1' and ARGV[24] == (redis.call('GET', K.leases) or '0') then
    firsts = refers_to
  end
  if #firsts == 0 then
    return { 0, 'absent', '' }
  end
end

local first_entries = setmetatable({}, {
  __index = function(entries, first_id)
    entries[first_id] = find_entry(first_id) or false
    return entries[first_id]
  end,
})

-- Whether there is a place behind an event for one more of an author. Strangers have a part of the places, each a few; the
-- others are its author's and the repositories' owners'.
local function has_room_behind(first_id, own)
  local key, first = K.behind .. first_id, first_entries[first_id]
  local is_stranger = not (first and first.author == own)
  for _, coordinate in ipairs(first and first.coordinates or {}) do
    is_stranger = is_stranger and string.sub(coordinate, 7, 70) ~= own
  end
  local room = K.behind_max - (is_stranger and K.behind_kept_free or 0)
  local share = redis.call('ZLEXCOUNT', key, '[' .. own .. ':', '(' .. own .. ';')
  return redis.call('ZCARD', key) < room and not (is_stranger and share >= K.behind_share_max)
end

-- Returns those of `firsts` behind which there is room for one more of an author, so many at most.
local function firsts_with_room(author, count_max)
  local with_room = {}
  for _, first_id in ipairs(firsts) do
    if #with_room < count_max and has_room_behind(first_id, author) then
      with_room[#with_room + 1] = first_id
    end
  end
  return with_room
end

local function wait_behind(other, author, behind)
  for _, first_id in ipairs(behind) do
    redis.call('ZADD', K.behind .. first_id, '0', author .. ':' .. other)
    end_not_before(K.behind .. first_id, decimal(deadline + K.backstop_secs))
  end
end

-- What has come before this event, and waits behind it, waits behind what this one waits behind, or ends if there is no room.
local function pass_on(other)
  local related = find_entry(other)
  if not related or not is_waiting(related) then
    return
  end
  local member, others_before = related.author .. ':' .. other, {}
  redis.call('ZREM', K.behind .. id, member)
  for _, before in ipairs(related.after) do
    if before ~= id then
      others_before[#others_before + 1] = before
    end
  end
  local behind = firsts_with_room(related.author, K.after_max - #others_before)
  wait_behind(other, related.author, behind)
  add_all(behind, others_before)
  if #behind < K.after_max then
    behind[#behind + 1] = id
  end
  related.after = behind
  if #ids_before(other, related) == 0 then
    remove_alone(other, related)
  else
    set_fields(other, 'after', ids_as_json(behind), 'waiting_for', '')
  end
end

local old_id, old
if entry.kind == '30617' then
  old_id, old = waiting_announcement(entry.coordinates[1])
end
if old then
  local tie = entry.created_at == old.created_at
  if is_later(old.created_at, entry.created_at) or (tie and old_id < id) then
    return { 0, 'replaced', '' }
  end
end

local freed = old and 1 or 0
local freed_bytes = old and tonumber(old.bytes) or 0

-- Names the limit that the event goes beyond: the entries' or the bytes'.
local function full(limit, is_old_in, entries_max, bytes_max, names)
  local entries, bytes = 0, 0
  if redis.call('EXISTS', limit.set) == 1 then
    entries, bytes = count(limit.set, limit.sum), tonumber(redis.call('GET', limit.sum) or '0')
  end
  if limit.counts then
    local more_entries, more_bytes = counted(limit.counts)
    entries, bytes = entries + more_entries, bytes + more_bytes
  end
  local releasing_entries, releasing_bytes = count_of(redis.call('HGET', K.releasing_counts, limit.payer))
  -- What the relay refuses for ever leaves room for others.
  entries = entries + math.min(releasing_entries, math.floor(limit.releasing_part * tonumber(entries_max)))
  bytes = bytes + math.min(releasing_bytes, math.floor(limit.releasing_part * tonumber(bytes_max)))
  if is_old_in then
    entries, bytes = entries - freed, bytes - freed_bytes
  end
  if entries >= tonumber(entries_max) then
    return names[1]
  end
  if bytes + tonumber(entry.bytes) > tonumber(bytes_max) then
    return names[2]
  end
  return nil
end

-- Whether this announcement can be read in one call with all others of the coordinate: there is more than one only while the
-- relay does not take the first.
local function is_readable_with(coordinate)
  local key, first, stop = own_range(coordinate, '30617')
  local members = redis.call('ZRANGE', key, first, stop, 'BYLEX', 'LIMIT', 0, 2 * K.page_max)
  local bytes = math.max(#ARGV[2], K.announcement_bytes_min)
  for _, member in ipairs(members) do
    local other = id_at_end(member)
    if other ~= old_id then
      bytes = bytes + math.max(tonumber(event_bytes(other)), K.announcement_bytes_min)
    end
  end
  return bytes <= tonumber(ARGV[20])
end

-- What others hold for a repository takes nothing of the first K.share_kept_free entries that an author may have there.
local function full_coordinate()
  for _, coordinate in ipairs(entry.coordinates) do
    local own = entry.author
    local is_owners = string.sub(coordinate, 7, 70) == own
    if entry.kind == '30617' and not is_readable_with(coordinate) then
      return 'share'
    end
    local all = redis.call('ZLEXCOUNT', own_range(coordinate)) - freed
    local share = is_owners and all or -freed
    for _, prefix in ipairs({ K.announcements, K.coordinate, K.pull_requests }) do
      local index = prefix .. in_key(coordinate)
      local members = redis.call('ZCARD', index)
      if members == 0 then
        -- Nobody's.
      elseif is_owners and prefix ~= K.pull_requests then
        share = share + members
      else
        share = share + redis.call('ZLEXCOUNT', index, '[' .. own .. ':', '(' .. own .. ';')
      end
      if members > 0 and prefix == K.pull_requests then
        local start = pull_request_prefix(own)
        share = share + redis.call('ZLEXCOUNT', index, '[' .. start, '(' .. string.sub(start, 1, -2) .. ';')
      end
      all = all + members
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

-- Until when the source of a new repository has used its day, in microseconds, with this one counted: each uses the same part of
-- it. nil: it does not count. What is more than a day ahead was written while the clock was wrong.
local used_until
if ARGV[22] ~= '' then
  local now = NOW * 1000000
  local before = tonumber(redis.call('ZSCORE', K.new_repositories, entry.source_group) or '0')
  before = before > now + DAY_MICROS and 0 or before
  used_until = math.max(before, now) + math.floor(DAY_MICROS / tonumber(ARGV[22]))
end

local function full_new_repositories()
  return used_until and used_until > NOW * 1000000 + DAY_MICROS and 'new-repositories' or nil
end

local function count_new_repository()
  if not used_until then
    return
  end
  redis.call('ZADD', K.new_repositories, decimal(used_until), entry.source_group)
  local others = redis.call('ZCARD', K.new_repositories) - K.announcing_max
  if others > 0 then
    redis.call('ZREMRANGEBYRANK', K.new_repositories, '0', others - 1)
  end
  end_not_before(K.new_repositories, decimal(math.ceil(used_until / 1000000)))
end

local behind = firsts_with_room(entry.author, K.after_max)
local after = {}
if is_related(entry) and #behind > 0 then
  add_all(after, behind)
  add_all(after, earlier)
  for _, first_id in ipairs(behind) do
    local first = first_entries[first_id]
    deadline = first and is_waiting(first) and math.max(deadline, first.deadline) or deadline
  end
end

if #ARGV[2] > tonumber(ARGV[11]) then
  return { 0, 'full:event-bytes', '' }
end
local limits = limits_of(entry)
local same_source = old and old.source_group == entry.source_group
local reached = full(limits.author, old, ARGV[12], ARGV[13], { 'author', 'author-bytes' })
  or full(limits.source, same_source, ARGV[14], ARGV[15], { 'source', 'source-bytes' })
  or full_new_repositories()
  or full_coordinate()
  or (is_related(entry) and #behind == 0 and 'behind')
  or full({ set = K.entries, sum = K.bytes, payer = 'all', releasing_part = K.releasing_part }, old, ARGV[17], ARGV[18], { 'entries', 'bytes' })
if reached then
  return { 0, 'full:' .. reached, '' }
end

count_new_repository()
if old then
  remove_entry(old_id, old, false, true)
end
set_event(id, entry, ARGV[2], ARGV[6], 'status', 'held', 'source', ARGV[7],
  'source_group', entry.source_group == ARGV[7] and '' or entry.source_group, 'held_since', decimal(NOW),
  'after', ids_as_json(after))
add_to_indices(id, entry)
if is_related(entry) then
  wait_behind(id, entry.author, behind)
  for _, other in ipairs(ids_behind(id)) do
    pass_on(other)
  end
end
local left = entry.kind == '30617' and follow_listings(entry.coordinates[1], listed, old ~= nil, dirty) or ''
set_deadline(id, entry, deadline)
note_changed(dirty, id, entry)
extend_others()
raise(dirty)
return { extended, 'held', left }
