#!lua flags=allow-oom
-- Removes, in any status, what its author asked to delete (NIP-09), one page of it.
--
-- KEYS: see common.lua.
-- ARGV: 1 author, 2 created_at of the request, 3 event ids (JSON array),
--       4 addresses (JSON array of [kind as text, identifier]),
--       5 how many of the targets are done, first the ids and then the addresses, of each all indices,
--       6 the last member of the next one's index that was read, empty if none was
-- Returns: { how many entries were removed, ARGV 5 and 6 of the next page, 5 being -1: that was the last,
--            the coordinates of which more is left to unlist (unlist_page.lua) }.
-- Cost: O(coordinates) for each of a page of targets, and of the author's entries under them, and at most K.page_max pubkeys
--       that each announcement lists.
-- Errors: none of its own.

local author, asked_at, done, last = ARGV[1], ARGV[2], tonumber(ARGV[5]), ARGV[6]
local ids, addresses = cjson.decode(ARGV[3]), cjson.decode(ARGV[4])
-- The owner's own index, and those that earlier versions have.
local indices = { 'own', K.announcements, K.coordinate }
local deleted, dirty = 0, {}

local function delete_entry(id, entry)
  remove_entry(id, entry)
  if not is_pull_request(entry) then
    add_all(dirty, entry.coordinates)
  end
  deleted = deleted + 1
end

local function delete_event(id)
  local entry = find_entry(id)
  if entry and entry.author == author then
    delete_entry(id, entry)
  end
end

-- Reads entries of the address behind `last` in one of the indices, and returns whether that were all.
local function delete_address(kind, identifier, prefix)
  local coordinate = '30617:' .. author .. ':' .. identifier
  local index, first, stop = prefix .. in_key(coordinate), '-', '+'
  if prefix == 'own' then
    index, first, stop = own_range(coordinate, kind)
  end
  first = last == '' and first or '(' .. last
  local members = redis.call('ZRANGE', index, first, stop, 'BYLEX', 'LIMIT', 0, K.page_max)
  touched = touched + 1
  for _, member in ipairs(members) do
    if is_enough() then
      return false
    end
    local id = id_at_end(member)
    local entry = find_entry(id)
    if not entry then
      redis.call('ZREM', index, member)
    elseif entry.author == author and entry.kind == kind and not is_later(entry.created_at, asked_at) then
      delete_entry(id, entry)
    end
    last = member
  end
  return #members < K.page_max
end

local targets = #ids + #indices * #addresses
while done < targets and not is_enough() do
  if done < #ids then
    delete_event(ids[done + 1])
    done = done + 1
  else
    local place = done - #ids
    local address = addresses[math.floor(place / #indices) + 1]
    if delete_address(address[1], address[2], indices[place % #indices + 1]) then
      done, last = done + 1, ''
    end
  end
end

raise(dirty)
return { deleted, done < targets and done or -1, last, still_listed }
