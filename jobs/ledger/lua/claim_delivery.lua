#!lua flags=allow-oom
-- claim_delivery(id, nonce, lease_ms, cap): claims a delivery for one attempt. Returns run, or the reason for a
-- refusal: gone, done, leased, early (its next attempt is later), held (the endpoint is disabled), busy (as many
-- attempts are running at this receiver as allowed). An attempt whose courier died is recorded as interrupted; the
-- schedule does not change.
local id, nonce, lease, cap = ARGV[1], ARGV[2], int(ARGV[3]), int(ARGV[4])
local d = fields(key('dlv:' .. id))
if not d.ep then return {'gone'} end
local lane = redis.call('HGET', key('ep:' .. d.ep), 'lane') or ''

local function refuse(why)
  leave_hand(lane, d.tenant, id)
  return {why}
end

local same = d.state == 'flying' and d.nonce == nonce
local lapsed = d.state == 'flying' and not same and int(d.lease) <= NOW
if d.state == 'flying' then
  if not same and not lapsed then return refuse('leased') end
elseif d.state ~= 'due' then return refuse('done')
elseif int(d.next) > NOW then return refuse('early') end
local ep = fields(key('ep:' .. d.ep))
if ep.state ~= 'active' then
  if ep.state then redis.call('ZADD', key('due:' .. d.ep), NOW, id) end -- continues once the endpoint is active
  return refuse('held')
end
local fly = key('fly:' .. ep.lane)
if not same and redis.call('ZCOUNT', fly, NOW, '+inf') >= lane_limit(ep.lane, cap) then
  look_at(d.ep, id, NOW + 1000)
  return refuse('busy')
end
local event = redis.call('HMGET', key('event:' .. d.job), d.event, 'meta')
local payload = event[1] or d.payload -- an older version wrote payload and metadata into each delivery
if not payload then
  redis.call('HSET', key('dlv:' .. id), 'state', 'failed', 'ended', NOW)
  redis.call('ZREM', key('due:' .. d.ep), id)
  return refuse('done')
end
local meta = not d.erased and (d.meta or event[2] or redis.call('HGET', key('job:' .. d.job), 'meta')) or ''
if lapsed then
  local attempt = cjson.encode({at = int(d.at), status = 0, ms = NOW - int(d.at), error = 'interrupted'})
  add_attempt(d.tenant, id, attempt .. '\n')
end
local started = same and int(d.at) or NOW
redis.call('HSET', key('dlv:' .. id), 'state', 'flying', 'nonce', nonce, 'lease', NOW + lease, 'at', started)
local ttl = d.erased and ep.kind == 'inline' and HOUR or DELIVERY_TTL
redis.call('PEXPIRE', key('dlv:' .. id), ttl)
redis.call('PEXPIRE', key('att:' .. id), ttl)
redis.call('PEXPIRE', key('event:' .. d.job), DELIVERY_TTL)
redis.call('ZREMRANGEBYSCORE', fly, '-inf', NOW)
redis.call('ZADD', fly, NOW + lease, id)
redis.call('PEXPIRE', fly, 2 * lease)
look_at(d.ep, id, NOW + lease)
return {'run', NOW, d.ep, d.job, d.event, payload, meta, int(d.n), ep.sealed, int(d.created),
  d.trace or '', d.tenant}
