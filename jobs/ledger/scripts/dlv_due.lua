#!lua flags=allow-oom
-- dlv_due(room, cap, again_ms, most): hands out up to `room` deliveries whose time has come, endpoint after endpoint,
-- the one that waited longest first, in messages of up to `most`. A message's deliveries are tried one after the
-- other, so a receiver gets as many messages as it may have attempts under way; `hand:` holds the last delivery of
-- each. What is not claimed within `again_ms` comes up again: a lost message only delays.
-- Returns {disabled endpoints, {id, ...}, ...}.
local room, cap, again, most = int(ARGV[1]), int(ARGV[2]), int(ARGV[3]), int(ARGV[4])
local out = {redis.call('SCARD', key('eps_off'))}

local function hand_out(list, hand, slots, per)
  local ids = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', list, '-inf', NOW, 'LIMIT', 0, math.min(room, slots * per))) do
    if redis.call('EXISTS', key('dlv:' .. id)) == 1 then
      redis.call('ZADD', list, NOW + again, id)
      ids[#ids + 1] = id
    else
      redis.call('ZREM', list, id)
    end
  end
  local size = math.ceil(#ids / slots)
  for first = 1, #ids, math.max(1, size) do
    local message = {unpack(ids, first, math.min(first + size - 1, #ids))}
    out[#out + 1] = message
    redis.call('ZADD', hand, NOW + again, message[#message])
    redis.call('PEXPIRE', hand, again)
  end
  room = room - #ids
end

for _, ep in ipairs(redis.call('ZRANGEBYSCORE', key('eps'), '-inf', NOW, 'LIMIT', 0, 200)) do
  if room < 1 then break end
  local list = key('due:' .. ep)
  local record = redis.call('HMGET', key('ep:' .. ep), 'state', 'lane')
  if record[1] ~= 'active' then -- gone, or disabled: making it active again puts it back
    redis.call('ZREM', key('eps'), ep)
    if not record[1] then
      redis.call('UNLINK', list)
      redis.call('SREM', key('eps_off'), ep)
    end
  else
    local bad = redis.call('EXISTS', key('bad:' .. record[2])) == 1
    local hand = key('hand:' .. record[2])
    local taken = math.max(redis.call('ZCOUNT', hand, NOW, '+inf'),
      redis.call('ZCOUNT', key('fly:' .. record[2]), NOW, '+inf'))
    local slots = (bad and 1 or cap) - taken
    if slots > 0 then hand_out(list, hand, slots, bad and 1 or most) end
    local first = redis.call('ZRANGE', list, 0, 0, 'WITHSCORES')
    if not first[1] then redis.call('ZREM', key('eps'), ep)
    else redis.call('ZADD', key('eps'), math.max(int(first[2]), slots > 0 and NOW or NOW + 5), ep) end
  end
end
return out
