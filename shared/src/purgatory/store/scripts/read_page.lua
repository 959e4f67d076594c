#!lua flags=allow-oom
-- Reads one page of everything about some coordinates, and takes vanished entries out of the indices it reads: first
-- the dirty numbers and listings of all, then of each coordinate the announcements, the other entries, and the
-- placeholders. The announcements are in one page, up to 2 * K.page_max: one that takes another's place between two pages
-- is not missed with it. Earlier versions have theirs in an index that is read first: what takes their place is in one
-- that is read later.
--
-- KEYS: see common.lua.
-- ARGV: 1 the place of the first coordinate to read, "1" at first,
--       2 "listings", "announcements" (of that coordinate, as earlier versions have them), "own" (these of its owner),
--       "entries", "own_entries" or "placeholders", "listings" at first,
--       3 the last member of that index that was read, or empty,
--       4 the id of one more entry to read on the first page, or empty,
--       then the coordinates.
-- Returns: { now, the last lease,
--            { { coordinate, dirty number }, ... },
--            { { coordinate, pubkeys of the first K.listing_max that list its owner, how many the index has that its owner
--                lists }, ... } where there are any,
--            the fields of entries (`entry_fields` in common.lua), each entry once,
--            { { event id, coordinate, commit oid, deadline }, ... } the placeholders,
--            ARGV 1 to 3 of the next page; 1 being 0: that was the last }
-- Cost: O(1) for each of at most K.coordinates_max, or of as many listings, and of 2 * K.page_max entries and placeholders; at most
--       K.page_bytes of events, and two events more, or the announcements of a coordinate (hold_entry.lua).
-- Errors: none of its own.

local place, index, last = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local dirty, listings, entries, placeholders, seen = {}, {}, {}, {}, {}
local looked_at, bytes = 0, 0

local function read_listings(coordinate)
  local number = redis.call('ZSCORE', K.dirty, coordinate)
  if number then
    dirty[#dirty + 1] = { coordinate, tonumber(number) }
  end
  local owners = redis.call('ZRANGE', K.listed_by .. in_key(coordinate), '0', decimal(K.listing_max - 1))
  local noted = redis.call('ZCARD', K.lists .. in_key(coordinate))
  if #owners + noted > 0 then
    listings[#listings + 1] = { coordinate, owners, noted }
  end
end

local following = {
  announcements = 'own', own = 'entries', entries = 'own_entries', own_entries = 'placeholders',
  placeholders = 'announcements',
}
local is_of_announcements = { announcements = true, own = true }

local function is_full()
  return looked_at >= K.page_max or bytes >= K.page_bytes
end

-- The rest of the page, or of the announcements.
local function next_members(key, first, stop)
  return redis.call('ZRANGE', key, last == '' and first or '(' .. last, stop, 'BYLEX', 'LIMIT', 0, 2 * K.page_max)
end

-- `key` has `member`; nil: the entry was asked for by its id.
local function read_entry(key, member)
  local id = id_at_end(member)
  if seen[id] then
    return
  end
  local fields = entry_fields(id)
  if not fields[1] then
    if key then
      redis.call('ZREM', key, member)
    end
    return
  end
  seen[id] = true
  bytes = bytes + #fields[1] + #fields[7]
  entries[#entries + 1] = fields
end

local function read_placeholder(key, member)
  local fields = redis.call('HMGET', K.placeholder .. member,
    'event_id', 'coordinate', 'commit_oid', 'deadline')
  if fields[1] then
    placeholders[#placeholders + 1] = fields
  else
    redis.call('ZREM', key, member)
  end
end

-- Reads what has room in the page of a range of one index, and returns whether that was all.
local function read_index(read, key, first, stop)
  local members = next_members(key, first, stop)
  for count, member in ipairs(members) do
    local is_in_one_page = is_of_announcements[index] and count > 1 and count < 2 * K.page_max
    if is_full() and not is_in_one_page then
      return false
    end
    read(key, member)
    last, looked_at = member, looked_at + 1
  end
  return #members < 2 * K.page_max
end

local function read_next(coordinate)
  if index == 'announcements' then
    return read_index(read_entry, K.announcements .. in_key(coordinate), '-', '+')
  elseif index == 'own' then
    return read_index(read_entry, own_range(coordinate, '30617'))
  elseif index == 'entries' then
    return read_index(read_entry, K.coordinate .. in_key(coordinate), '-', '+')
  elseif index == 'own_entries' then
    return read_index(read_entry, own_range(coordinate, '30618'))
  end
  return read_index(read_placeholder, K.placeholders_of .. in_key(coordinate), '-', '+')
end

if ARGV[4] ~= '' then
  read_entry(nil, ARGV[4])
end

-- Coordinates of which nothing is here cost too. The listings of few leave room for what is here.
local count = #ARGV - 4
local has_room = true
if index == 'listings' then
  for at = place, math.min(count, place + K.coordinates_max - 1) do
    read_listings(ARGV[at + 4])
    place = at + 1
  end
  has_room = count <= K.few_max
  if place > count then
    index, place = 'announcements', 1
  end
end

local stop = math.min(count, place + K.coordinates_max - 1)
while has_room and place <= stop and not is_full() do
  if read_next(ARGV[place + 4]) then
    index, last = following[index], ''
    place = index == 'announcements' and place + 1 or place
  end
end

if place > count then
  place = 0
end
return { NOW, redis.call('GET', K.leases) or '0', dirty, listings, entries, placeholders, place, index, last }
