#!lua flags=allow-oom
-- Marks one page of complete events as releasing, writes them whole, and leases to the caller those that it may publish now. One
-- that is ordered after an event of another caller waits: marked, not leased, due as soon as that has
-- left (take_due.lua).
--
-- KEYS: see common.lua.
-- ARGV: 1 lease-secs, 2 ids that the caller has leased by earlier pages (JSON array), then of each release, in the order of publishing:
--       +1 event id, +2 event JSON, +3 kind, +4 author, +5 created_at, +6 coordinates (JSON array),
--       +7 ids of the events to publish before it (JSON array)
-- Returns: { { { place of the release in ARGV (from 1), lease }, ... } of those that are the caller's, in order,
--            { place, ... } of those that wait }.
--          Left out and unchanged: what is releasing already and whose time has not come (leased to another caller, or
--          to be retried later, and not only put off by take_due.lua), and what its author deleted since the caller
--          decided.
-- Cost: O(releases * coordinates + events to publish before them); the caller gives at most a page.
-- Errors: none of its own.

local function is_anothers(id, old)
  local retry = redis.call('ZSCORE', K.releasing, id)
  return old and is_releasing(old) and retry and tonumber(retry) > NOW and not is_put_off(id)
end

-- All are marked before any is leased: what is ordered after one of them finds it marked.
local marked = {}
for first = 3, #ARGV, 7 do
  local id = ARGV[first]
  local entry = {
    kind = ARGV[first + 2],
    author = ARGV[first + 3],
    created_at = ARGV[first + 4],
    coordinates = cjson.decode(ARGV[first + 5]),
  }
  local old = find_entry(id)
  if not is_anothers(id, old) and not is_deleted(id, entry) then
    if old then
      clear_deadline(id, old)
    else
      set_fields(id, 'held_since', decimal(NOW), 'deadline', decimal(NOW))
    end
    entry.bytes, entry.source_group = old and old.bytes, old and old.source_group or ''
    set_event(id, entry, ARGV[first + 1], ARGV[first + 5])
    if old and old.releasing_bytes then
      count_releasing(old, -1, old.releasing_bytes)
    end
    local bytes = event_bytes(id)
    count_releasing(entry, 1, bytes)
    local since = old and is_releasing(old) and {} or { 'releasing_since', decimal(NOW) }
    set_fields(id, 'status', 'releasing', 'waiting_for', '', 'lease', '', 'releasing_bytes', bytes, unpack(since))
    stop_waiting(id)
    set_releasing_after(id, ARGV[first + 6])
    add_to_indices(id, entry)
    redis.call('ZADD', K.releasing, decimal(NOW), id)
    marked[#marked + 1] = { place = (first + 4) / 7, id = id, after = ARGV[first + 6] }
  end
end

local leased, waiting, own = {}, {}, {}
add_all(own, cjson.decode(ARGV[2]))
for _, release in ipairs(marked) do
  if blocker(release.id, release.after, own) then
    waiting[#waiting + 1] = release.place
  else
    own[release.id] = true
    leased[#leased + 1] = { release.place, lease(release.id, tonumber(ARGV[1])) }
  end
end
if #marked > 0 then
  wake()
end
return { leased, waiting }
