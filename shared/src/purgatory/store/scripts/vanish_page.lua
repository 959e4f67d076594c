#!lua flags=allow-oom
-- Removes what an author has held or asleep up to a time (NIP-62), one page of it. Releasing ones stay: the relay rules
-- them out.
--
-- KEYS: see common.lua.
-- ARGV: 1 author, 2 created_at of the request, 3 the index of the author's entries that is read, "author" at first and then "own",
--         into which entries of the first may move meanwhile,
--       4 how far it was read: of the first how many were read and stay, "0" at first; of the second the last member, empty at first
-- Returns: { how many entries were removed, ARGV 3 and 4 of the next page; 3 being empty: that was the last,
--            the coordinates of which more is left to unlist (unlist_page.lua) }.
-- Cost: O(coordinates) for each of a page, in which each pubkey that an announcement lists counts too.
-- Errors: none of its own.

local author, asked_at, index, read = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local vanished, dirty, looked_at = 0, {}, 0
local key = K[index] .. author

local function next_members()
  if index == 'own' then
    return redis.call('ZRANGE', key, read == '' and '-' or '(' .. read, '+', 'BYLEX', 'LIMIT', 0, K.page_max)
  end
  return redis.call('ZRANGE', key, read, decimal(read + K.page_max - 1))
end

local page = next_members()
for _, member in ipairs(page) do
  if is_enough() then
    break
  end
  looked_at = looked_at + 1
  local id = index == 'own' and id_at_end(member) or id_of(member)
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

if looked_at == #page and #page < K.page_max then
  index, read = index == 'author' and 'own' or '', ''
elseif index == 'own' then
  read = page[looked_at]
else
  -- What waits behind a removed entry has gone with it, and may have been read before.
  for place = 1, looked_at do
    if redis.call('ZSCORE', key, page[place]) then
      read = read + 1
    end
  end
  read = decimal(read)
end

raise(dirty)
return { vanished, index, read, still_listed }
