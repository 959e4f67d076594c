-- Common part of every script; script.rs puts it behind the script's first line (`#!lua ...`).
--
-- In front of it stands, written by keys.rs:
--   local K = { ... }  the names: whole keys, prefixes of keys (K.entry .. id), the channel, and the bounds (keys.rs)
--
-- The store in memory runs the scripts too. It has only the commands that they use, with just these arguments
-- (memory/keyspace.rs): one that it does not have is an error there.
--
-- KEYS of every script: the keys whose names do not depend on the call (keys.rs, `fixed`). They declare what is
-- known up front and route the call to its slot on Redis Cluster. Keys of single events, coordinates, authors and
-- placeholders are computed here from the prefixes in K; all have the hash tag {purgatory}, so all are in that slot.
--
-- What a script costs: one call changes entries and marks coordinates as long as they are fewer than K.page_max
-- together (`is_enough`), reads no more than K.scanned_max members of an index, and returns K.page_bytes of events, and
-- one event more. Where there may be more, the script returns where to continue, and is called again: others are served in
-- between. So no call takes 5 ms (scripts/redis-cost measures it).
--
-- Words: `coordinate` is that of a repository as plain text, `30617:<pubkey>:<identifier>`, `id` an event id in hex,
-- `tail` the end of a placeholder's key. "Past" means at or before NOW.

local TIME = redis.call('TIME')
local NOW = tonumber(TIME[1])

-- Numbers as text: Lua's own conversion loses digits from 10^14 on.
local function decimal(number)
  return string.format('%.0f', number)
end

-- Bytes as they stand in keys, filled as they come.
local encoded_bytes = setmetatable({}, {
  __index = function(encoded, byte)
    encoded[byte] = string.format('%%%02X', string.byte(byte))
    return encoded[byte]
  end,
})
-- `Identifier::encoded`, byte for byte.
local function encode(text)
  return (string.gsub(text, '[^A-Za-z0-9%-%._~]', encoded_bytes))
end

local encoded_coordinates = {}

-- A coordinate as it stands in keys, `<pubkey>:<encoded identifier>`. Each once: a PR may have 16 of 255 odd bytes.
local function in_key(coordinate)
  local encoded = encoded_coordinates[coordinate]
  if not encoded then
    encoded = string.sub(coordinate, 7, 71) .. encode(string.sub(coordinate, 72))
    encoded_coordinates[coordinate] = encoded
  end
  return encoded
end

-- Compares two event times, decimals without leading zeros, exactly: they are the author's choice up to 2^64.
local function is_later(time, other)
  if #time ~= #other then
    return #time > #other
  end
  return time > other
end

-- Draws `count` numbers that were never drawn from `counter`, even if Redis lost its memory in between, or this is a
-- replica that had not heard of the last ones: none is below the microsecond (exact in a score until the year 2255).
-- Returns the first.
local function next_numbers(counter, count)
  local last = tonumber(redis.call('GET', counter) or '0')
  local first = math.max(last + 1, NOW * 1000000 + tonumber(TIME[2]))
  redis.call('SET', counter, decimal(first + count - 1))
  return first
end

local function next_number(counter)
  return next_numbers(counter, 1)
end

-- Once in a call is enough: what it does is seen as a whole.
local is_awake = false

local function wake()
  if not is_awake then
    redis.call('PUBLISH', K.wake, '')
    is_awake = true
  end
end

-- Entries that this call has read, their coordinates, and pubkeys that it has added to the index of listings or taken off it: a
-- long coordinate costs as much as an entry.
local touched = 0

-- Coordinates of announcements that this call has removed, and of whose listings it has left some.
local still_listed = {}

local function is_enough()
  return touched >= K.page_max
end

-- Adds texts to a list that has each once, and as a key too.
local function add_all(list, more)
  for _, text in ipairs(more) do
    if not list[text] then
      list[text] = true
      list[#list + 1] = text
    end
  end
end

-- Raises the dirty number of every coordinate of such a list, in its order: to sort takes long, as Redis compares texts by the
-- rules of its locale.
local function raise(coordinates)
  if #coordinates == 0 then
    return
  end
  local first = next_numbers(K.changes, #coordinates)
  for place, coordinate in ipairs(coordinates) do
    redis.call('ZADD', K.dirty, decimal(first + place - 1), coordinate)
  end
  wake()
end

-- Sets fields of an entry, each a name and its value. One that is empty is not there: most of them are, in most entries.
local function set_fields(id, ...)
  local full, empty = {}, {}
  for place = 1, select('#', ...), 2 do
    local name, value = select(place, ...)
    if value == '' or value == '[]' then
      empty[#empty + 1] = name
    else
      full[#full + 1], full[#full + 2] = name, value
    end
  end
  if #full > 0 then
    redis.call('HSET', K.entry .. id, unpack(full))
  end
  if #empty > 0 then
    redis.call('HDEL', K.entry .. id, unpack(empty))
  end
end

-- How the JSON of an event begins: with what the name of its entry and other fields have too.
local function event_head(id, author, created_at, kind)
  return '{"id":"' .. id .. '","pubkey":"' .. author .. '","created_at":' .. created_at .. ',"kind":' .. kind .. ','
end

-- Sets what is so of an event wherever it is; the author only where that is not the owner of the first coordinate, and of JSON that is
-- not long what no other field has: of long JSON the rest is little, and to put it together takes time. Other fields are set
-- with these: each call takes its time.
local function set_event(id, entry, event, coordinates, ...)
  local first = entry.coordinates[1]
  local is_owners = first and string.sub(first, 7, 70) == entry.author
  local head = event_head(id, entry.author, entry.created_at, entry.kind)
  local is_cut = #event <= K.cut_bytes_max and string.sub(event, 1, #head) == head
  local rest = is_cut and '{' .. string.sub(event, #head + 1)
  local is_more_counted = entry.bytes and entry.bytes ~= decimal(#event)
  set_fields(id, 'event', rest or event, 'kind', entry.kind,
    'bytes', is_more_counted and entry.bytes or rest and decimal(#event) or '',
    'author', is_owners and '' or entry.author, 'coordinates', coordinates, 'created_at', entry.created_at, ...)
end

-- Returns the whole JSON of an event, of the fields of its entry. It may be whole there.
local function whole_event(id, event, author, coordinates, created_at, kind)
  if string.sub(event, 1, 6) == '{"id":' then
    return event
  end
  author = author or string.match(coordinates or '', '30617:(%x+)') or ''
  return event_head(id, author, created_at or '', kind or '') .. string.sub(event, 2)
end

-- Returns the JSON of an event that there is.
local function read_event(id)
  return whole_event(id,
    unpack(redis.call('HMGET', K.entry .. id, 'event', 'author', 'coordinates', 'created_at', 'kind')))
end

-- Sets what a releasing entry is ordered after, and lets it stay until it is settled. The field is there even if it is empty:
-- an earlier version that runs beside takes an entry without it for one that has vanished.
local function set_releasing_after(id, after)
  redis.call('HSET', K.entry .. id, 'after', after)
  redis.call('PERSIST', K.entry .. id)
end

-- Bytes of an event that the limits count, as text. The field is not there where these are the JSON, which is whole.
local function event_bytes(id)
  return redis.call('HGET', K.entry .. id, 'bytes') or decimal(redis.call('HSTRLEN', K.entry .. id, 'event'))
end

local function find_entry(id)
  local fields = redis.call('HMGET', K.entry .. id, 'status', 'author', 'kind', 'coordinates', 'created_at', 'deadline',
    'source', 'source_group', 'after', 'bytes', 'releasing_bytes')
  touched = touched + 1
  if not fields[1] then
    return nil
  end
  local coordinates = cjson.decode(fields[4] or '[]')
  local after = #coordinates == 0 and cjson.decode(fields[9] or '[]')
  touched = touched + (after and #after or #coordinates)
  return {
    status = fields[1],
    author = fields[2] or string.sub(coordinates[1], 7, 70),
    kind = fields[3],
    coordinates = coordinates,
    created_at = fields[5],
    deadline = tonumber(fields[6]),
    bytes = fields[10] or event_bytes(id),
    -- nil: it counts for nobody.
    releasing_bytes = fields[11] or nil,
    source_group = fields[8] or fields[7] or '',
    -- Of a related event, which has no coordinates: what it waits behind, and what is published before it.
    after = after,
  }
end

-- The id at the end of a member of an index. By its length: a pattern that ends there would try every place of a long member.
local function id_at_end(member)
  return string.sub(member, -64)
end

-- The id in a member of a set of limits.
local function id_of(member)
  return string.match(member, '^[^:]*')
end

-- Reads one page of all that has a deadline, in no order: first K.entries, then K.placeholders. Returns which of them it is
-- of, its members, and the next cursor, "0" behind the last.
local function scan_waiting(cursor)
  local of_placeholders = string.match(cursor, '^placeholders:(%d+)$')
  local set = of_placeholders and K.placeholders or K.entries
  local scanned = redis.call('ZSCAN', set, of_placeholders or cursor, 'COUNT', K.page_max)
  local members, next_cursor = {}, scanned[1]
  for place = 1, #scanned[2], 2 do
    members[#members + 1] = scanned[2][place]
  end
  if set == K.entries and next_cursor == '0' or set == K.placeholders and next_cursor ~= '0' then
    next_cursor = 'placeholders:' .. next_cursor
  end
  return set, members, next_cursor
end

-- Which server this is: another one after each start.
local function run_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

-- Whether it is a related event, which waits behind one that it refers to, and is found by nothing else.
local function is_related(entry)
  return #entry.coordinates == 0
end

local function is_pull_request(entry)
  return entry.kind == '1618' or entry.kind == '1619'
end

-- Whether it is its author's own announcement or state: these are found by their author, and need no other index.
local function is_own(entry)
  local is_owners = #entry.coordinates == 1 and string.sub(entry.coordinates[1], 7, 70) == entry.author
  return is_owners and (entry.kind == '30617' or entry.kind == '30618')
end

-- How the members of K.own begin that are about a coordinate, of one kind or of all.
local function own_prefix(coordinate, kind)
  return string.sub(in_key(coordinate), 66) .. ':' .. (kind and kind .. ':' or '')
end

-- Where the owner's own events about a coordinate are, of one kind or of all: the key, and the ends of a range of members.
local function own_range(coordinate, kind)
  local prefix = own_prefix(coordinate, kind)
  return K.own .. string.sub(coordinate, 7, 70), '[' .. prefix, '(' .. string.sub(prefix, 1, -2) .. ';'
end

-- The index of a coordinate that an entry stands in. PRs, of which strangers may have many, have one of their own, so that
-- who reads about the repository reads none of them.
local function index_key(entry, coordinate)
  if is_own(entry) then
    return K.own .. entry.author
  end
  local prefix = entry.kind == '30617' and K.announcements or is_pull_request(entry) and K.pull_requests or K.coordinate
  return prefix .. in_key(coordinate)
end

-- A member of an index of a coordinate that names the author: those of one author stand together. Earlier versions have such
-- ones of PRs too.
local function member_with_author(id, entry)
  return entry.author .. ':' .. entry.kind .. ':' .. id
end

-- How the members begin that PRs of an author have. Nobody finds a key that begins as that of another author.
local function pull_request_prefix(author)
  return string.sub(author, 1, 16) .. ':'
end

local function pull_request_member(id, entry)
  return pull_request_prefix(entry.author) .. id
end

-- The member of the index of a coordinate.
local function index_member(id, entry, coordinate)
  if is_own(entry) then
    return own_prefix(coordinate, entry.kind) .. id
  end
  return is_pull_request(entry) and pull_request_member(id, entry) or member_with_author(id, entry)
end

-- Marks something to be reconciled, in K.looked_at: the index member of a PR, or the id of an event that commits may be staged
-- for. The first that was asked for is reconciled first.
local function mark_unreconciled(member, coordinates)
  local first = next_numbers(K.changes, #coordinates)
  for place, coordinate in ipairs(coordinates) do
    local number = first + place - 1
    redis.call('ZADD', K.looked_at .. in_key(coordinate), decimal(number - K.unreconciled_offset), member)
    redis.call('ZADD', K.dirty_pull_requests, 'NX', decimal(number), coordinate)
  end
  wake()
end

-- Has all PRs of a coordinate reconciled, if it has any: what has happened to the repository may complete them.
local function begin_round(coordinate)
  if redis.call('EXISTS', K.looked_at .. in_key(coordinate)) == 1 then
    local number = decimal(next_number(K.changes))
    redis.call('SET', K.round .. in_key(coordinate), number)
    redis.call('ZADD', K.dirty_pull_requests, 'NX', number, coordinate)
    wake()
  end
end

-- Takes something off K.looked_at.
local function forget_looked_at(member, coordinate)
  redis.call('ZREM', K.looked_at .. in_key(coordinate), member)
  if redis.call('EXISTS', K.looked_at .. in_key(coordinate)) == 0 then
    redis.call('DEL', K.round .. in_key(coordinate))
  end
end

-- Notes that an entry has to be reconciled: a PR is reconciled by itself, and of anything else the coordinates become dirty,
-- which the caller raises.
local function note_changed(dirty, id, entry)
  if is_pull_request(entry) then
    mark_unreconciled(pull_request_member(id, entry), entry.coordinates)
  else
    add_all(dirty, entry.coordinates)
  end
end

-- As `note_changed`, for a member of K.entries or K.placeholders. Returns when its deadline is; nil: it has vanished.
local function note_due(dirty, set, member)
  if set == K.entries then
    local id = id_of(member)
    local entry = find_entry(id)
    if entry then
      note_changed(dirty, id, entry)
    end
    return entry and entry.deadline
  end
  local fields = redis.call('HMGET', K.placeholder .. member, 'coordinate', 'deadline')
  touched = touched + 1
  if fields[1] then
    mark_unreconciled(string.sub(member, 1, 64), { fields[1] })
  end
  return fields[1] and tonumber(fields[2])
end

local function is_waiting(entry)
  return entry.status == 'held' or entry.status == 'asleep'
end

local function is_releasing(entry)
  return entry.status == 'releasing' or entry.status == 'stuck'
end

-- Returns one of the events in `after` (JSON array of ids) that is releasing, those in `own` left out; nil: there is
-- none. The event `id`, which is ordered after it, is due as soon as that has left (stop_releasing).
local function blocker(id, after, own)
  for _, other in ipairs(cjson.decode(after)) do
    local status = not own[other] and redis.call('HGET', K.entry .. other, 'status')
    if status == 'releasing' or status == 'stuck' then
      redis.call('ZADD', K.waiting .. other, '0', id)
      redis.call('EXPIREAT', K.waiting .. other, decimal(NOW + K.backstop_secs))
      return other
    end
  end
  return nil
end

-- Whether a releasing event waits for one that it is ordered after: it is put off (take_due.lua), and nobody's.
local function is_put_off(id)
  for _, other in ipairs(cjson.decode(redis.call('HGET', K.entry .. id, 'after') or '[]')) do
    if redis.call('ZSCORE', K.waiting .. other, id) then
      return true
    end
  end
  return false
end

-- Has an event wait for none of those that it was ordered after.
local function stop_waiting(id)
  for _, other in ipairs(cjson.decode(redis.call('HGET', K.entry .. id, 'after') or '[]')) do
    redis.call('ZREM', K.waiting .. other, id)
  end
end

-- Makes due at once what waits for the entry (take_due.lua has put it off), as much of it as one call may touch, and
-- returns whether there is any. It waits, and is nobody's, until it is leased.
local function let_go_what_waits(id)
  local is_any = false
  local others = redis.call('ZRANGE', K.waiting .. id, '-', '+', 'BYLEX', 'LIMIT', 0, K.scanned_max)
  touched = touched + math.ceil(#others / 8)
  for _, other in ipairs(others) do
    if redis.call('ZSCORE', K.releasing, other) then
      redis.call('ZADD', K.releasing, 'LT', decimal(NOW), other)
      is_any = true
    end
  end
  return is_any
end

-- Draws a lease for an entry, and keeps others from it until it runs out.
local function lease(id, secs)
  stop_waiting(id)
  local number = next_number(K.leases)
  set_fields(id, 'lease', decimal(number))
  redis.call('ZADD', K.releasing, decimal(NOW + secs), id)
  return number
end

local function add_to_indices(id, entry)
  for _, coordinate in ipairs(entry.coordinates) do
    redis.call('ZADD', index_key(entry, coordinate), '0', index_member(id, entry, coordinate))
  end
end

-- Where earlier versions have the id of the announcement of a coordinate that is held or asleep.
local function announcement_key(coordinate)
  return K.announcement .. in_key(coordinate)
end

-- Returns the announcement of a coordinate that is held or asleep, its id and its entry.
local function waiting_announcement(coordinate)
  local earlier = redis.call('GET', announcement_key(coordinate))
  local found_earlier = earlier and find_entry(earlier)
  if found_earlier then
    return earlier, found_earlier
  end
  for _, range in ipairs({ { own_range(coordinate, '30617') }, { K.announcements .. in_key(coordinate), '-', '+' } }) do
    for _, member in ipairs(redis.call('ZRANGE', range[1], range[2], range[3], 'BYLEX', 'LIMIT', 0, K.scanned_max)) do
      local other = id_at_end(member)
      if is_waiting({ status = redis.call('HGET', K.entry .. other, 'status') }) then
        return other, find_entry(other)
      end
    end
  end
  return nil, nil
end

-- Sets the TTL of `key` to end at `time`, unless it ends later already.
local function end_not_before(key, time)
  redis.call('EXPIREAT', key, time, 'NX')
  redis.call('EXPIREAT', key, time, 'GT')
end

-- The limits that an entry counts in, beside those on all: the set that it is in, the sum of the bytes in that, the counts of
-- those that are in no such set, who pays for it while it is releasing, and how much of the limit such entries take at most.
-- An author's announcements and states are in K.own; of what one source has sent, nobody asks.
local function limits_of(entry)
  local source = encode(entry.source_group)
  return {
    author = { set = K.author .. entry.author, sum = K.author_bytes .. entry.author, counts = K.own_counts .. entry.author,
      payer = 'author:' .. entry.author, releasing_part = 1, is_counted = is_own(entry) },
    source = { set = K.source .. source, sum = K.source_bytes .. source, counts = K.source_counts .. source,
      payer = 'source:' .. source, releasing_part = K.releasing_part, is_counted = true },
  }
end

-- Returns what a span of counts has: entries, and their bytes.
local function count_of(text)
  local entries, bytes = string.match(text or '', '^(%d+):(%d+)$')
  return tonumber(entries or 0), tonumber(bytes or 0)
end

-- Adds to the counts of the events that end in the same span of K.count_secs as one with this deadline.
local function add_to_counts(key, deadline, entries, bytes)
  local span = decimal(math.floor(deadline / K.count_secs))
  local old = redis.call('HGET', key, span)
  if not old and entries < 0 then
    -- It has not counted for long (`counted`).
    return
  end
  local old_entries, old_bytes = count_of(old)
  -- Never below nothing, whatever was counted wrong once.
  entries, bytes = old_entries + entries, math.max(old_bytes + bytes, 0)
  if entries > 0 then
    redis.call('HSET', key, span, decimal(entries) .. ':' .. decimal(bytes))
  else
    redis.call('HDEL', key, span)
  end
end

-- Returns how many entries are in such counts, and their bytes. What a crash leaked counts until the backstop.
local function counted(key)
  local fields, entries, bytes = redis.call('HGETALL', key), 0, 0
  for place = 1, #fields, 2 do
    if (fields[place] + 1) * K.count_secs <= NOW - K.backstop_secs then
      redis.call('HDEL', key, fields[place])
    else
      local of_span, bytes_of_span = count_of(fields[place + 1])
      entries, bytes = entries + of_span, bytes + bytes_of_span
    end
  end
  return entries, bytes
end

-- The bytes stand in the member, so that they are known when a crash took the entry away.
local function limit_member(id, entry)
  return id .. ':' .. entry.bytes
end

-- Takes bytes of members that left a set off its sum. An empty set has no sum, so that no error in it outlives it.
local function take_off(set, sum, bytes)
  if redis.call('EXISTS', set) == 0 then
    redis.call('DEL', sum)
  else
    redis.call('DECRBY', sum, decimal(bytes))
  end
end

local function add_to_set(set, sum, score, id, entry)
  if redis.call('ZADD', set, score, limit_member(id, entry)) == 1 then
    redis.call('INCRBY', sum, entry.bytes)
  end
end

-- Returns whether it was in there.
local function take_out(set, sum, id, entry)
  local is_out = redis.call('ZREM', set, limit_member(id, entry)) == 1
  if is_out then
    take_off(set, sum, tonumber(entry.bytes))
  end
  return is_out
end

-- Takes an entry off the counts of one limit, and returns whether an earlier version has held it, which had it in the set.
local function take_off_counts(id, entry, limit)
  if not entry.deadline then
    -- It is new.
    return false
  end
  local is_earlier = take_out(limit.set, limit.sum, id, entry)
  if not is_earlier and is_waiting(entry) then
    add_to_counts(limit.counts, entry.deadline, -1, -entry.bytes)
  end
  return is_earlier
end

-- Gives an entry that is held or asleep its deadline: field, indices, limits and backstop.
local function set_deadline(id, entry, deadline)
  local ends = decimal(deadline + K.backstop_secs)
  local score = decimal(deadline)
  set_fields(id, 'deadline', score)
  redis.call('EXPIREAT', K.entry .. id, ends)
  add_to_set(K.entries, K.bytes, score, id, entry)
  for _, limit in pairs(limits_of(entry)) do
    if limit.is_counted then
      if take_off_counts(id, entry, limit) and is_own(entry) then
        add_to_indices(id, entry)
      end
      add_to_counts(limit.counts, deadline, 1, tonumber(entry.bytes))
      end_not_before(limit.counts, ends)
    else
      add_to_set(limit.set, limit.sum, score, id, entry)
      end_not_before(limit.set, ends)
      end_not_before(limit.sum, ends)
    end
  end
  entry.deadline = deadline
end

-- Takes an entry out of what counts and ends waiting ones.
local function clear_deadline(id, entry)
  take_out(K.entries, K.bytes, id, entry)
  for _, limit in pairs(limits_of(entry)) do
    if limit.is_counted then
      take_off_counts(id, entry, limit)
    else
      take_out(limit.set, limit.sum, id, entry)
    end
  end
  if entry.kind == '30617' then
    for _, coordinate in ipairs(entry.coordinates) do
      if redis.call('GET', announcement_key(coordinate)) == id then
        redis.call('DEL', announcement_key(coordinate))
      end
    end
  end
end

-- Counts an entry that is releasing (with -1: no longer) for its author, for its source, and among all: they pay for it
-- until it has left, as for one that is held. What was counted is in its field `releasing_bytes`.
local function count_releasing(entry, more, releasing_bytes)
  local limits = limits_of(entry)
  for _, payer in ipairs({ 'all', limits.author.payer, limits.source.payer }) do
    local entries, bytes = count_of(redis.call('HGET', K.releasing_counts, payer))
    entries, bytes = entries + more, math.max(bytes + more * tonumber(releasing_bytes), 0)
    if entries > 0 then
      redis.call('HSET', K.releasing_counts, payer, decimal(entries) .. ':' .. decimal(bytes))
    else
      redis.call('HDEL', K.releasing_counts, payer)
    end
  end
end

-- Takes an entry, or one that has vanished, out of those that are releasing, and has what waits for it due. Where none is
-- releasing, nothing counts: no error in the counts outlives that, as from an earlier version that ran beside.
local function stop_releasing(id, entry)
  if entry and entry.releasing_bytes then
    count_releasing(entry, -1, entry.releasing_bytes)
  end
  stop_waiting(id)
  if let_go_what_waits(id) then
    wake()
  end
  if redis.call('ZREM', K.releasing, id) == 1 and redis.call('EXISTS', K.releasing) == 0 then
    redis.call('DEL', K.releasing_counts)
  end
end

-- Returns the ids of all related events that wait behind an entry: more than K.behind_max if an earlier version let them.
local function ids_behind(id)
  local ids = {}
  for _, member in ipairs(redis.call('ZRANGE', K.behind .. id, '-', '+', 'BYLEX', 'LIMIT', 0, K.behind_read_max)) do
    ids[#ids + 1] = id_at_end(member)
  end
  return ids
end

local function ids_as_json(ids)
  return #ids == 0 and '[]' or '["' .. table.concat(ids, '","') .. '"]'
end

-- Returns what a related event waits behind.
local function ids_before(id, entry)
  local before = {}
  for _, other in ipairs(entry.after) do
    if redis.call('ZSCORE', K.behind .. other, entry.author .. ':' .. id) then
      before[#before + 1] = other
    end
  end
  return before
end

-- What a reader gets of an entry: event JSON, coordinates (JSON array), status, source, held_since, deadline,
-- waiting_for, release_error, after (JSON array of ids), releasing_since. The first is nothing where there is no such entry.
local function entry_fields(id)
  local fields = redis.call('HMGET', K.entry .. id, 'event', 'coordinates', 'status', 'source', 'held_since', 'deadline',
    'waiting_for', 'release_error', 'after', 'releasing_since', 'author', 'created_at', 'kind')
  local kind, created_at, author = table.remove(fields), table.remove(fields), table.remove(fields)
  if fields[1] then
    fields[1] = whole_event(id, fields[1], author, fields[2], created_at, kind)
  end
  -- A related event waits for the first of those that it waits behind.
  if fields[9] and not fields[7] and not fields[2] and is_waiting({ status = fields[3] }) then
    local first = ids_before(id, { author = author, after = cjson.decode(fields[9]) })[1]
    fields[7] = first and 'event ' .. first
  end
  for place, empty in pairs({ [2] = '[]', [4] = '', [7] = '', [8] = '', [9] = '[]', [10] = '' }) do
    fields[place] = fields[place] or empty
  end
  return fields
end

-- Marks as releasing what waits behind an entry that is served now: whatever else it waits behind, the first is enough.
local function release_behind(id)
  for _, other in ipairs(ids_behind(id)) do
    local entry = find_entry(other)
    if entry and is_waiting(entry) then
      local after = {}
      for _, before in ipairs(entry.after) do
        if redis.call('ZREM', K.behind .. before, entry.author .. ':' .. other) == 0 then
          after[#after + 1] = before
        end
      end
      clear_deadline(other, entry)
      count_releasing(entry, 1, entry.bytes)
      set_fields(other, 'status', 'releasing', 'waiting_for', '', 'releasing_since', decimal(NOW),
        'releasing_bytes', entry.bytes)
      set_releasing_after(other, ids_as_json(after))
      redis.call('ZADD', K.releasing, decimal(NOW), other)
      wake()
    end
  end
  redis.call('DEL', K.behind .. id)
end

-- Returns at most so many of those whom the announcements of `coordinate` are noted to list, with this rank.
local function noted_listings(coordinate, rank, count_max)
  return redis.call('ZRANGE', K.lists .. in_key(coordinate), rank, rank, 'BYSCORE', 'LIMIT', 0, count_max)
end

-- Takes pubkeys off the index of listings: the announcements of `coordinate` do not list them any more.
local function take_listings_off(coordinate, pubkeys)
  if #pubkeys == 0 then
    return
  end
  local owner, identifier = string.sub(coordinate, 7, 70), string.sub(in_key(coordinate), 66)
  touched = touched + #pubkeys
  for _, pubkey in ipairs(pubkeys) do
    redis.call('ZREM', K.listed_by .. pubkey .. ':' .. identifier, owner)
  end
  redis.call('ZREM', K.lists .. in_key(coordinate), unpack(pubkeys))
end

-- Takes off the index of listings whom no served announcement of `coordinate` lists, where the one that waited has been removed: a page
-- of it. Of the rest, the coordinate stays in `still_listed`, and is dirty, so that a reconcile takes it off if nobody else does.
local function unlist(coordinate)
  local noted = noted_listings(coordinate, '1', K.page_max + 1)
  if #noted > K.page_max then
    noted[#noted] = nil
    add_all(still_listed, { coordinate })
    raise({ coordinate })
  end
  take_listings_off(coordinate, noted)
end

-- Whether the number of the last lease has risen because an entry has left.
local has_noted_leaving = false

-- Removes one entry. The number of the last lease rises: a program that has asked the relay before, and reads the purgatory after, may
-- have missed it in both. A gateway removes what is staged for a PR with it; of one that is served it went when the
-- commit was installed, but in other repositories it may still be needed. With an announcement that waited, what it alone has
-- listed leaves the index, unless another has come in its place (`follow_listings`); a reconcile notes what others list too.
local function remove_alone(id, entry, is_served, is_replaced)
  clear_deadline(id, entry)
  stop_releasing(id, entry)
  redis.call('DEL', K.entry .. id)
  if not has_noted_leaving then
    next_number(K.leases)
    has_noted_leaving = true
  end
  local with_author = member_with_author(id, entry)
  for _, coordinate in ipairs(entry.coordinates) do
    redis.call('ZREM', index_key(entry, coordinate), index_member(id, entry, coordinate))
    if is_pull_request(entry) then
      -- As earlier versions have it.
      redis.call('ZREM', K.pull_requests .. in_key(coordinate), with_author)
      redis.call('ZREM', K.looked_at .. in_key(coordinate), with_author)
      forget_looked_at(pull_request_member(id, entry), coordinate)
    elseif is_own(entry) then
      -- Where earlier versions have put it.
      redis.call('ZREM', (entry.kind == '30617' and K.announcements or K.coordinate) .. in_key(coordinate), id)
      redis.call('ZREM', K.coordinate .. in_key(coordinate), with_author)
    end
  end
  if is_pull_request(entry) and not (is_served and #entry.coordinates == 1) then
    mark_unreconciled(id, entry.coordinates)
  end
  if entry.kind == '30617' and is_waiting(entry) and not is_replaced then
    unlist(entry.coordinates[1])
  end
end

-- Removes an entry, and what waits behind it and nothing else. Nothing waits behind these (hold_entry.lua).
local function remove_entry(id, entry, is_served, is_replaced)
  for _, other in ipairs(ids_behind(id)) do
    local related = find_entry(other)
    if related and is_waiting(related) then
      redis.call('ZREM', K.behind .. id, related.author .. ':' .. other)
      if #ids_before(other, related) == 0 then
        remove_alone(other, related)
      else
        -- As an earlier version wrote it.
        set_fields(other, 'waiting_for', '')
      end
    end
  end
  redis.call('DEL', K.behind .. id)
  for _, other in ipairs(is_related(entry) and entry.after or {}) do
    redis.call('ZREM', K.behind .. other, entry.author .. ':' .. id)
  end
  remove_alone(id, entry, is_served, is_replaced)
end

-- Holds an entry at least until `deadline`; a sleeping one wakes with just that deadline, and its coordinates are added
-- to `woken`. Returns whether it waits at all.
local function extend_entry(id, deadline, woken)
  local entry = find_entry(id)
  if not entry or not is_waiting(entry) then
    return false
  end
  if entry.status == 'asleep' then
    set_fields(id, 'status', 'held')
    set_deadline(id, entry, deadline)
    add_all(woken, entry.coordinates)
  elseif entry.deadline < deadline then
    set_deadline(id, entry, deadline)
  end
  return true
end

-- The keys of an author's gates: those of this span of K.gate_secs, and those of the one before.
local function gate_keys(author)
  local span = math.floor(NOW / K.gate_secs)
  return { K.deleted .. author .. ':' .. decimal(span), K.deleted .. author .. ':' .. decimal(span - 1) }
end

-- Reads the `created_at` of the request out of a gate; nil: it has ended.
local function open_gate(gate)
  local asked_at, ends = string.match(gate, '^(%d+):(%d+)$')
  return tonumber(ends) > NOW and asked_at or nil
end

-- Whether the entry's author asked to delete it in the last K.gate_secs.
local function is_deleted(id, entry)
  local fields = { 'author', id }
  if entry.kind == '30617' or entry.kind == '30618' then
    fields[3] = entry.kind .. ':' .. string.sub(in_key(entry.coordinates[1]), 66)
  end
  local keys = gate_keys(entry.author)
  if redis.call('EXISTS', keys[1], keys[2]) == 0 then
    return false
  end
  for _, key in ipairs(keys) do
    local gates = redis.call('HMGET', key, unpack(fields))
    for place in ipairs(fields) do
      local asked_at = gates[place] and open_gate(gates[place])
      if asked_at and (place == 2 or not is_later(entry.created_at, asked_at)) then
        return true
      end
    end
  end
  return false
end

-- Takes members that have vanished, and are there, out of a set of limits.
local function forget_members(set, sum, members)
  local bytes = 0
  for _, member in ipairs(members) do
    redis.call('ZREM', set, member)
    bytes = bytes + (tonumber(string.match(member, ':(%d+)$')) or 0)
  end
  if sum and #members > 0 then
    take_off(set, sum, bytes)
  end
end

-- Counts a set of limits, members that a crash leaked left out. Of these only so many are taken out at once, so that
-- no call takes long.
local function count(set, sum)
  local ended = decimal(NOW - K.backstop_secs)
  local vanished, here = {}, 0
  for _, member in ipairs(redis.call('ZRANGE', set, '-inf', ended, 'BYSCORE', 'LIMIT', 0, K.page_max)) do
    local key = set == K.placeholders and K.placeholder .. member or K.entry .. id_of(member)
    if redis.call('EXISTS', key) == 0 then
      vanished[#vanished + 1] = member
    else
      here = here + 1
    end
  end
  forget_members(set, sum, vanished)
  return here + redis.call('ZCOUNT', set, '(' .. ended, '+inf')
end

-- Why `added` more placeholders of a repository, from one source, have no place: 'full' (of the repository, or of all and
-- more here than each may always have), 'full:source'; nil if they have. An empty source is not counted.
local function placeholders_full(added, coordinate, source_group, max, of_repository_max, of_source_max)
  if added == 0 then
    return nil
  end
  local here = redis.call('ZCARD', K.placeholders_of .. in_key(coordinate)) + added
  local is_beyond = here > K.placeholders_kept_free and count(K.placeholders) + added > tonumber(max)
  if is_beyond or here > tonumber(of_repository_max) then
    return 'full'
  end
  local of_source = K.placeholders_from .. encode(source_group)
  if source_group ~= '' and redis.call('ZCOUNT', of_source, '(' .. decimal(NOW), '+inf') + added > tonumber(of_source_max) then
    return 'full:source'
  end
  return nil
end

-- The tails that the placeholder of a commit may have: earlier versions had one for each event and repository, whatever the commit.
local function placeholder_tails(event_id, coordinate, commit_oid)
  local earlier = event_id .. ':' .. in_key(coordinate)
  return { earlier .. ':' .. commit_oid, earlier }
end

-- Returns the tail of the placeholder of a commit; nil: there is none.
local function find_placeholder(event_id, coordinate, commit_oid)
  for _, tail in ipairs(placeholder_tails(event_id, coordinate, commit_oid)) do
    if redis.call('HGET', K.placeholder .. tail, 'commit_oid') == commit_oid then
      return tail
    end
  end
  return nil
end

local function remove_placeholder(tail, coordinate)
  local source_group = redis.call('HGET', K.placeholder .. tail, 'source_group')
  if source_group then
    redis.call('ZREM', K.placeholders_from .. encode(source_group), tail)
  end
  redis.call('DEL', K.placeholder .. tail)
  redis.call('ZREM', K.placeholders_of .. in_key(coordinate), tail)
  redis.call('ZREM', K.placeholders, tail)
end

-- Notes that an announcement of `coordinate` lists these pubkeys: a decision about an event of one of them finds
-- the repository by it (`take_listings_off` is the other way). Those who list with a low `rank` are found first; one that is
-- noted already gets this rank only if `is_exact`.
-- A decision in progress has not found what is new: of these coordinates those that are dirty are added to `dirty`, and of
-- those that have PRs to reconcile, all are reconciled, so that their marks outlast that decision.
local function add_listings(coordinate, pubkeys, rank, is_exact, dirty)
  if #pubkeys == 0 then
    return
  end
  local owner, identifier = string.sub(coordinate, 7, 70), string.sub(in_key(coordinate), 66)
  local noted, concerned = {}, { coordinate }
  local function add(key, ...)
    if is_exact then
      return redis.call('ZADD', key, ...)
    end
    return redis.call('ZADD', key, 'NX', ...)
  end

  touched = touched + #pubkeys
  for _, pubkey in ipairs(pubkeys) do
    noted[#noted + 1], noted[#noted + 2] = rank, pubkey
    if add(K.listed_by .. pubkey .. ':' .. identifier, rank, owner) == 1 then
      concerned[#concerned + 1] = '30617:' .. pubkey .. string.sub(coordinate, 71)
    end
  end
  add(K.lists .. in_key(coordinate), unpack(noted))
  if #concerned == 1 then
    return
  end
  local is_dirty = redis.call('ZMSCORE', K.dirty, unpack(concerned))
  local has_dirty_pull_requests = redis.call('ZMSCORE', K.dirty_pull_requests, unpack(concerned))
  for place, other in ipairs(concerned) do
    if is_dirty[place] then
      add_all(dirty, { other })
    end
    if has_dirty_pull_requests[place] then
      begin_round(other)
    end
  end
end

-- Notes that the announcement of `coordinate` that waits lists these pubkeys, and with `is_in_place` of another one that waited
-- nobody else, but whom a served one lists: at most K.page_max of what differs, first what goes, so that no more is
-- noted than one announcement lists. Returns what is left: '' (nothing), 'new', or 'new and old'. `listed` has each as a key too.
local function follow_listings(coordinate, listed, is_in_place, dirty)
  local room, gone, new = K.page_max, {}, {}
  for _, pubkey in ipairs(is_in_place and noted_listings(coordinate, '1', 2 * K.listed_max) or {}) do
    if not listed[pubkey] and #gone < room then
      gone[#gone + 1] = pubkey
    end
  end
  local noted = #listed > 0 and redis.call('ZMSCORE', K.lists .. in_key(coordinate), unpack(listed))
  for place, pubkey in ipairs(listed) do
    if not noted[place] and #gone + #new < room then
      new[#new + 1] = pubkey
    end
  end
  take_listings_off(coordinate, gone)
  add_listings(coordinate, new, '1', false, dirty)
  if #gone + #new < room then
    return ''
  end
  return is_in_place and 'new and old' or 'new'
end
