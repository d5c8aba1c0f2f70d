-- Write one hash if it is newer than the one that is there; see contract version 1.
--
-- KEYS[1]  the hash
-- ARGV[1]  the field that orders writers: version or revision
-- ARGV[2]  its new value
-- ARGV[3]  '1' to overwrite a higher one as well, '2' to say the message of an equal one again
-- ARGV[4]  remaining life in milliseconds at the time of sending; '' for no end
-- ARGV[5]  the time of sending on this server's clock, in milliseconds
-- ARGV[6]  channel for the message; '' for none
-- ARGV[7]  the message
-- ARGV[8]  the first field, its value, the second field ...; none removes the hash
--
-- Returns {outcome, '1' if an older one is left, why the message could not be said,
-- '1' if something of another type was there}.

-- Plain digits up to 2^53, else nil: the same as in versions.py.
local function order_of(text)
  if not text or not (text == '0' or string.find(text, '^[1-9]%d*$')) then
    return nil
  end
  if #text > 16 or (#text == 16 and text > '9007199254740992') then
    return nil
  end
  return tonumber(text)
end

local key = KEYS[1]
local order, force = tonumber(ARGV[2]), ARGV[3] == '1'

local kind, spoilt = redis.call('TYPE', key)['ok'], ''
if kind ~= 'hash' and kind ~= 'none' then
  kind, spoilt = 'none', '1' -- nobody of the contract makes such a key: it goes below
end
local found = nil
if kind == 'hash' then
  found = order_of(redis.call('HGET', key, ARGV[1]))
end

if found and found > order and not force then
  return {'refused', '1', '', spoilt}
end

if #ARGV < 8 then
  redis.call('DEL', key)
  return {kind == 'none' and 'absent' or 'removed', '', '', spoilt}
end

local life = nil
if ARGV[4] ~= '' then
  -- A frozen server executes late: what passed since the sending is no longer life.
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  life = tonumber(ARGV[4]) - math.max(0, now - tonumber(ARGV[5]))
  if life < 1 then
    if found and not force then
      return {'late', '1', '', spoilt}
    end
    redis.call('DEL', key)
    return {'late', '', '', spoilt}
  end
end

redis.call('DEL', key)
redis.call('HSET', key, unpack(ARGV, 8))
if life then
  local ends = redis.pcall('PEXPIRE', key, string.format('%.0f', math.floor(life)))
  if type(ends) == 'table' and ends['err'] then
    redis.call('DEL', key) -- forbidden: what cannot end must not be readable
    return ends
  end
end

local outcome = found == order and 'rewritten' or 'written'
if ARGV[6] ~= '' and (outcome == 'written' or ARGV[3] == '2') then
  local heard = redis.pcall('PUBLISH', ARGV[6], ARGV[7])
  if type(heard) == 'table' and heard['err'] then
    return {outcome, '', heard['err'], spoilt} -- what was written stays readable
  end
end
return {outcome, '', '', spoilt}
