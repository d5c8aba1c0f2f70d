-- Read the oldest requests of the stream, each looked at by size before it travels.
--
-- KEYS[1]  the stream
-- ARGV[1]  how many entries at the most
-- ARGV[2]  bytes that an entry may have: what is larger is deleted unread
--
-- Returns {whether the key held another type and was deleted, entries that were too large,
--          {id, {field, value ...}, id, {...} ...}}.

local key, most, largest = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local last = '18446744073709551615-18446744073709551615'

local kind = redis.call('TYPE', key)['ok']
if kind ~= 'stream' then
  return {redis.call('DEL', key), 0, {}}
end

local entries, dropped, after = {}, 0, '-'
for _ = 1, most do
  -- One at a time: a single entry may be as large as all of them are allowed to be together.
  local found = redis.call('XRANGE', key, after, '+', 'COUNT', 1)
  if #found == 0 then
    break
  end
  local id, fields = found[1][1], found[1][2]
  local size = 0
  for _, text in ipairs(fields) do
    size = size + #text + 8
  end
  if size > largest then
    redis.call('XDEL', key, id)
    dropped = dropped + 1
    if size > 64 * largest then
      break  -- its memory is given back before the next one is looked at
    end
  else
    entries[#entries + 1] = id
    entries[#entries + 1] = fields
  end
  if id == last then
    break  -- nothing can follow it, and to ask for it is an error
  end
  after = '(' .. id
end
return {0, dropped, entries}
