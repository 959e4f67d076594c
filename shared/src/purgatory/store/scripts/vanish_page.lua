#!lua flags=allow-oom
-- Removes what an author has held or asleep up to a time (NIP-62), one page of it. Releasing ones stay: the relay rules
-- them out.
--
-- KEYS: see common.lua.
-- ARGV: 1 author, 2 created_at of the request, 3 the index of the author's entries that is read, "own" at first and then "author",
--       4 how many of them were read and stay, "0" at first
-- Returns: { how many entries were removed, ARGV 3 and 4 of the next page; 3 being empty: that was the last }.
-- Cost: O(coordinates) for each of a page.
-- Errors: none of its own.

local author, asked_at, index, kept = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local vanished, dirty = 0, {}
local key = K[index] .. author
local page = redis.call('ZRANGE', key, decimal(kept), decimal(kept + K.page_max - 1))
local looked_at = 0
for _, member in ipairs(page) do
  if is_enough() then
    break
  end
  looked_at = looked_at + 1
  local id = index == 'own' and string.match(member, '[^:]*$') or id_of(member)
  local entry = find_entry(id)
  if not entry and index == 'own' then
    redis.call('ZREM', key, member)
  elseif entry and is_waiting(entry) and not is_later(entry.created_at, asked_at) then
    remove_entry(id, entry)
    if not is_pull_request(entry) then
      add_all(dirty, entry.coordinates)
    end
    vanished = vanished + 1
  end
end
-- What waits behind a removed entry has gone with it, and may have been read before.
for place = 1, looked_at do
  if redis.call('ZSCORE', key, page[place]) then
    kept = kept + 1
  end
end

raise(dirty)
if looked_at == #page and #page < K.page_max then
  index, kept = index == 'own' and 'author' or '', 0
end
return { vanished, index, kept }
