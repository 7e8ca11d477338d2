#!lua flags=allow-oom
-- take_due_deliveries(room, cap, again_ms, most, courier, slots): returns up to `room` messages of due deliveries,
-- tenant after tenant. Due endpoints move from `eps`, which every version writes, into a list per tenant; `turns`
-- orders the tenants by their last turn. Within a tenant, the endpoint that waited longest comes first. The
-- deliveries of a message are tried one after the other, so a receiver gets as many messages as attempts may run
-- there at once. `hand:` holds the last delivery of each message: by receiver, by tenant ('@tenant'), of slow tenants
-- ('~') and of all ('@'). A delivery that is not claimed within `again_ms` is due again: a lost message only causes a
-- delay.
-- courier, slots: the caller and its slots. Tenants share the slots of all couriers that called within `again_ms`;
-- without such a courier they have no limit.
-- Returns {disabled endpoints, 1 if more is due than one call looks at, {id, ...}, ...}.
local room, cap, again, most = int(ARGV[1]), int(ARGV[2]), int(ARGV[3]), int(ARGV[4])
local courier, slots = ARGV[5], ARGV[6]
local ARRIVALS, TENANTS, ENDPOINTS = 500, 200, 50 -- limits of one call; ENDPOINTS: per tenant
local FEW = 2 -- messages that a slow tenant may have, or any tenant while most slots are taken
local AGAIN_IN_LIST = 60000 -- `eps` brings an endpoint back after this long, in case its tenant's list is lost

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

-- An older courier removes deliveries that it tried only from their receiver's list. This runs at most once a second.
local function forget_tried(pool)
  if not redis.call('SET', key('swept:' .. pool), 1, 'NX', 'PX', 1000) then return end
  for _, id in ipairs(redis.call('ZRANGE', key('hand:' .. pool), 0, -1)) do
    local ep = redis.call('HGET', key('dlv:' .. id), 'ep')
    local lane = ep and redis.call('HGET', key('ep:' .. ep), 'lane')
    if not lane or not redis.call('ZSCORE', key('hand:' .. lane), id) then redis.call('ZREM', key('hand:' .. pool), id) end
  end
end

-- Returns how many more messages a tenant may have: at most half of all slots, and the last quarter is reserved for
-- tenants with few messages. A slow tenant has few, and all slow tenants together at most half of the slots.
local function allowance(tenant, slow)
  local mine, half = under_way('@' .. tenant), math.max(1, math.floor(all / 2))
  local free = all - under_way('@')
  local left = math.min(half - mine, math.max(free - math.floor(all / 4), math.min(FEW - mine, free)))
  if slow then left = math.min(left, FEW - mine, half - under_way('~')) end
  return left
end

-- Adds messages with one endpoint's due deliveries to `messages`; returns how many.
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
  if record[1] ~= 'active' then -- deleted, or disabled: activating it puts it back
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

-- Returns one tenant's messages of this turn.
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
while any do -- the queue is first-in first-out: one message of each tenant before the second of any
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
