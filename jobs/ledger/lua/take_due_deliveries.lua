#!lua flags=allow-oom
-- take_due_deliveries(room, cap, again_ms, most, courier, slots): hands out up to `room` messages of deliveries whose time has come,
-- tenant after tenant. What is due moves from `eps`, which every version writes, into a list per tenant; `turns`
-- orders the tenants by when each had its last turn. Within a tenant the endpoint that waited longest comes first. A
-- message's deliveries are tried one after the other, so a receiver gets as many messages as it may have attempts under
-- way; `hand:` holds the last delivery of each message, by receiver, tenant ('@tenant'), slow tenants ('~') and in all
-- ('@'). What is not claimed within `again_ms` comes up again: a lost message only delays.
-- courier, slots: the caller and its slots; those of all couriers that called within `again_ms` are shared out. While
-- none has said, tenants have no limit.
-- Returns {disabled endpoints, 1 if more is due than one call looks at, {id, ...}, ...}.
local room, cap, again, most = int(ARGV[1]), int(ARGV[2]), int(ARGV[3]), int(ARGV[4])
local courier, slots = ARGV[5], ARGV[6]
local ARRIVALS, TENANTS, ENDPOINTS = 500, 200, 50 -- most that one call looks at; endpoints: of one tenant
local FEW = 2 -- messages under way that a tenant has where it is slow, or where most slots are taken
local AGAIN_IN_LIST = 60000 -- `eps` brings an endpoint back after this long, should its tenant's list be lost

if courier ~= '' then
  redis.call('ZREMRANGEBYSCORE', key('couriers'), '-inf', NOW)
  redis.call('ZADD', key('couriers'), NOW + again, courier .. ':' .. slots)
end
local all = 0
for _, name in ipairs(redis.call('ZRANGE', key('couriers'), 0, -1)) do
  all = all + int(string.match(name, ':(%d+)$'))
end

local function forget_endpoint(ep)
  redis.call('UNLINK', key('due:' .. ep))
  redis.call('SREM', key('eps_off'), ep)
  redis.call('ZREM', key('eps'), ep)
end

local arrived = redis.call('ZRANGEBYSCORE', key('eps'), '-inf', NOW, 'LIMIT', 0, ARRIVALS)
for _, ep in ipairs(arrived) do
  local tenant = redis.call('HGET', key('ep:' .. ep), 'tenant')
  local first = redis.call('ZRANGE', key('due:' .. ep), 0, 0, 'WITHSCORES')
  if not tenant then forget_endpoint(ep)
  elseif not first[1] then redis.call('ZREM', key('eps'), ep)
  else
    redis.call('ZADD', key('due:@' .. tenant), 'LT', first[2], ep)
    redis.call('PEXPIRE', key('due:@' .. tenant), DELIVERY_TTL)
    redis.call('ZADD', key('turns'), 'NX', NOW, tenant)
    redis.call('ZADD', key('eps'), NOW + AGAIN_IN_LIST, ep)
  end
end

local function under_way(pool) return redis.call('ZCOUNT', key('hand:' .. pool), NOW, '+inf') end

-- An older courier takes what it tried from its receiver's list alone. Once a second is enough.
local function forget_tried(pool)
  if not redis.call('SET', key('swept:' .. pool), 1, 'NX', 'PX', 1000) then return end
  for _, id in ipairs(redis.call('ZRANGE', key('hand:' .. pool), 0, -1)) do
    local ep = redis.call('HGET', key('dlv:' .. id), 'ep')
    local lane = ep and redis.call('HGET', key('ep:' .. ep), 'lane')
    if not lane or not redis.call('ZSCORE', key('hand:' .. lane), id) then redis.call('ZREM', key('hand:' .. pool), id) end
  end
end

-- How many messages more a tenant may have: half of all slots at most, and the last quarter of them is kept for
-- those with few under way. Slow tenants have few each, and half of all slots together.
local function allowance(tenant, slow)
  local mine, half = under_way('@' .. tenant), math.max(1, math.floor(all / 2))
  local free = all - under_way('@')
  local left = math.min(half - mine, math.max(free - math.floor(all / 4), math.min(FEW - mine, free)))
  if slow then left = math.min(left, FEW - mine, half - under_way('~')) end
  return left
end

-- One endpoint's deliveries as messages, put into `messages`; returns how many.
local function hand_out(list, pools, slots_left, per, messages)
  local ids = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', list, '-inf', NOW, 'LIMIT', 0, slots_left * per)) do
    if redis.call('EXISTS', key('dlv:' .. id)) == 1 then
      redis.call('ZADD', list, NOW + again, id)
      ids[#ids + 1] = id
    else
      redis.call('ZREM', list, id)
    end
  end
  local size, count = math.max(1, math.ceil(#ids / slots_left)), 0
  for first = 1, #ids, size do
    local message = {unpack(ids, first, math.min(first + size - 1, #ids))}
    messages[#messages + 1] = message
    count = count + 1
    for _, pool in ipairs(pools) do
      redis.call('ZADD', key('hand:' .. pool), NOW + again, message[#message])
      redis.call('PEXPIRE', key('hand:' .. pool), again)
    end
  end
  return count
end

local function serve_endpoint(ep, mine, pools, left, messages)
  local list, record = key('due:' .. ep), redis.call('HMGET', key('ep:' .. ep), 'state', 'lane')
  if record[1] ~= 'active' then -- gone, or disabled: making it active again puts it back
    redis.call('ZREM', mine, ep)
    if record[1] then redis.call('ZREM', key('eps'), ep) else forget_endpoint(ep) end
    return 0
  end
  local lane = record[2]
  local limit = lane_limit(lane, cap)
  local lane_free = limit - math.max(under_way(lane), redis.call('ZCOUNT', key('fly:' .. lane), NOW, '+inf'))
  local count = 0
  if lane_free > 0 then
    pools[1] = lane
    count = hand_out(list, pools, math.min(lane_free, left), limit < cap and 1 or most, messages)
  end
  local first = redis.call('ZRANGE', list, 0, 0, 'WITHSCORES')
  if not first[1] or int(first[2]) > NOW then
    redis.call('ZREM', mine, ep)
    if first[1] then redis.call('ZADD', key('eps'), first[2], ep) else redis.call('ZREM', key('eps'), ep) end
  else redis.call('ZADD', mine, lane_free > 0 and NOW or NOW + 5, ep) end
  return count
end

-- One tenant's messages of this turn; nil where no slot at all is left.
local function take_turn(tenant)
  local mine, messages = key('due:@' .. tenant), {}
  local slow = all > 0 and is_slow('@' .. tenant)
  local left = all > 0 and allowance(tenant, slow) or room
  if left < 1 then
    for _, pool in ipairs({'@' .. tenant, '@', '~'}) do forget_tried(pool) end
    left = allowance(tenant, slow)
  end
  local pools = {'', '@' .. tenant, '@', slow and '~' or nil}
  left = math.min(left, room)
  if left > 0 then
    for _, ep in ipairs(redis.call('ZRANGEBYSCORE', mine, '-inf', NOW, 'LIMIT', 0, ENDPOINTS)) do
      local count = serve_endpoint(ep, mine, pools, left, messages)
      left, room = left - count, room - count
      if left < 1 then break end
    end
  end
  if redis.call('EXISTS', mine) == 1 then redis.call('ZADD', key('turns'), NOW, tenant)
  else redis.call('ZREM', key('turns'), tenant) end
  return messages
end

local turns = {}
if room > 0 then
  for _, tenant in ipairs(redis.call('ZRANGE', key('turns'), 0, TENANTS - 1)) do
    turns[#turns + 1] = take_turn(tenant)
    if room < 1 then break end
  end
end
local out = {redis.call('SCARD', key('eps_off')), #arrived == ARRIVALS and 1 or 0}
local place, any = 1, true
while any do -- the queue is first in, first out: a message of each tenant before the second of any
  any = false
  for _, messages in ipairs(turns) do
    if messages[place] then
      out[#out + 1] = messages[place]
      any = true
    end
  end
  place = place + 1
end
return out
