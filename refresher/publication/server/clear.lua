-- Delete a key that was acted on, unless somebody has written something else meanwhile.
--
-- KEYS[1]  the key
-- ARGV[1]  how many bytes were read of it
-- ARGV[2]  these bytes; a key of another type than string is deleted whatever they are

local kind = redis.call('TYPE', KEYS[1])['ok']
if kind == 'string' then
  local read = redis.call('GETRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)
  if read ~= ARGV[2] then
    return 0
  end
end
return redis.call('DEL', KEYS[1])
