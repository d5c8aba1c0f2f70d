-- Delete entries that were taken, and the stream with the last of them.
--
-- A stream remembers its highest id after every entry is gone, and takes only higher ones: an
-- entry with the last possible id would end it for everybody. One that is deleted begins anew.
--
-- KEYS[1]  the stream
-- ARGV[1]  the ids, parted by spaces

if redis.call('TYPE', KEYS[1])['ok'] ~= 'stream' then
  return 0
end
local ids = {}
for id in string.gmatch(ARGV[1], '%S+') do
  ids[#ids + 1] = id
end
if #ids > 0 then
  redis.call('XDEL', KEYS[1], unpack(ids))
end
if redis.call('XLEN', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[1])
end
return 1
