#!lua flags=allow-oom
-- dlv_due(room, cap, again_ms): hands out up to `room` deliveries whose time has come, endpoint after endpoint, the
-- one that waited longest first. Each comes up again after `again_ms` unless it is claimed: a lost message only
-- delays. Returns {disabled endpoints, {ep, id, ...}, ...}.
local room, cap, again = int(ARGV[1]), int(ARGV[2]), int(ARGV[3])
local out = {redis.call('SCARD', key('eps_off'))}
local ready = redis.call('ZRANGEBYSCORE', key('eps'), '-inf', NOW, 'LIMIT', 0, 200)
for _, ep in ipairs(ready) do
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
    local limit = redis.call('EXISTS', key('bad:' .. record[2])) == 1 and 1 or cap
    local free = limit - redis.call('ZCOUNT', key('fly:' .. record[2]), NOW, '+inf')
    -- Handed out and not claimed yet. Topped up when half are gone: more would only find the receiver busy.
    local hand = key('hand:' .. record[2])
    local out_now = redis.call('ZCOUNT', hand, NOW, '+inf')
    local most = limit == 1 and 1 or 8 * cap
    local take = out_now * 2 > most and 0 or math.min(room, most - out_now)
    if free > 0 and take > 0 then
      local group = {ep}
      for _, id in ipairs(redis.call('ZRANGEBYSCORE', list, '-inf', NOW, 'LIMIT', 0, take)) do
        if redis.call('EXISTS', key('dlv:' .. id)) == 1 then
          redis.call('ZADD', list, NOW + again, id)
          redis.call('ZADD', hand, NOW + again, id)
          group[#group + 1] = id
        else
          redis.call('ZREM', list, id)
        end
      end
      room = room - (#group - 1)
      if #group > 1 then
        out[#out + 1] = group
        redis.call('PEXPIRE', hand, again)
      end
    end
    local first = redis.call('ZRANGE', list, 0, 0, 'WITHSCORES')
    if not first[1] then redis.call('ZREM', key('eps'), ep)
    else redis.call('ZADD', key('eps'), math.max(int(first[2]), free > 0 and NOW or NOW + 200), ep) end
  end
end
return out
