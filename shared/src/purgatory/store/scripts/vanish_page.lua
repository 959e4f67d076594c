#!lua flags=allow-oom
-- Removes what an author has held or asleep up to a time (NIP-62), one page of it. Releasing ones stay: the relay rules
-- them out.
--
-- KEYS: see common.lua.
-- ARGV: 1 author, 2 created_at of the request, 3 how many of the author's entries were read and stay, "0" at first
-- Returns: { how many entries were removed, ARGV 3 of the next page, or -1: that was the last }.
-- Cost: O(coordinates) for each of a page.
-- Errors: none of its own.

local author, asked_at, kept = ARGV[1], ARGV[2], tonumber(ARGV[3])
local vanished, dirty = 0, {}
local page = redis.call('ZRANGE', K.author .. author, decimal(kept), decimal(kept + K.page_max - 1))
local looked_at = 0
for _, member in ipairs(page) do
  if is_enough() then
    break
  end
  looked_at = looked_at + 1
  local id = string.match(member, '^[^:]*')
  local entry = find_entry(id)
  if entry and not is_later(entry.created_at, asked_at) then
    remove_entry(id, entry)
    if not is_pull_request(entry) then
      add_all(dirty, entry.coordinates)
    end
    vanished = vanished + 1
  end
end
-- What waits behind a removed entry has gone with it, and may have been read before.
for place = 1, looked_at do
  if redis.call('ZSCORE', K.author .. author, page[place]) then
    kept = kept + 1
  end
end

raise(dirty)
return { vanished, looked_at == #page and #page < K.page_max and -1 or kept }
