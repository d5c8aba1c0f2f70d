-- Write one hash if it is newer than the one that is there; see contract version 1.
--
-- KEYS[1]  the hash
-- ARGV[1]  the field that orders writers: version or revision
-- ARGV[2]  its new value
-- ARGV[3]  '1' to overwrite a higher one as well
-- ARGV[4]  remaining life in milliseconds at the time of sending; '' for no end
-- ARGV[5]  the time of sending on this server's clock, in milliseconds
-- ARGV[6]  channel for the message; '' for none
-- ARGV[7]  the message
-- ARGV[8]  the first field, its value, the second field ...; none removes the hash
--
-- Returns {outcome, the order found}.

local key = KEYS[1]
local order, force = tonumber(ARGV[2]), ARGV[3] == '1'

local kind = redis.call('TYPE', key)['ok']
local found = nil
if kind == 'hash' then
  found = tonumber(redis.call('HGET', key, ARGV[1]) or '')
end
local shown = found and string.format('%.0f', found) or ''

if found and found > order and not force then
  return {'refused', shown}
end

if #ARGV < 8 then
  redis.call('DEL', key)
  return {kind == 'none' and 'absent' or 'removed', shown}
end

local life = nil
if ARGV[4] ~= '' then
  -- A frozen server executes late: what passed since the sending is no longer life.
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  life = tonumber(ARGV[4]) - math.max(0, now - tonumber(ARGV[5]))
  if life < 1 then
    if force then
      redis.call('DEL', key)
    end
    return {'late', shown}
  end
end

redis.call('DEL', key)
redis.call('HSET', key, unpack(ARGV, 8))
if life then
  redis.call('PEXPIRE', key, string.format('%.0f', math.floor(life)))
end

if found == order then
  return {'rewritten', shown}
end
if ARGV[6] ~= '' then
  redis.call('PUBLISH', ARGV[6], ARGV[7])
end
return {'written', shown}
