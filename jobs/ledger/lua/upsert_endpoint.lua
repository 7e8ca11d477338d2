#!lua
-- upsert_endpoint(ep, tenant, rev, sealed, events, state, kind, every, lane, ttl_ms, most, job, most_bytes): creates
-- (rev 0) or changes (rev as it was read) an endpoint. every: '1' if it is notified of every job of its tenant. most:
-- limit of the tenant's endpoints of this kind; of inline endpoints only those count whose job or deliveries are open
-- (0: no limit). job: that of an inline endpoint. most_bytes: limit of the tenant's stored bytes; 0 is no limit.
-- Returns ok, conflict, absent, full or stored.
local ep, tenant, rev, sealed, events, state, kind, every, lane, ttl, most, job, most_bytes = unpack(ARGV)
local where, mine, all = key('ep:' .. ep), key('epl:' .. tenant), key('eps:' .. tenant)
local known = redis.call('HMGET', where, 'rev', 'sealed', 'state', 'tenant')
local open = key('epi:' .. tenant) -- inline endpoints, by the time when they were last seen open

-- Checks the 200 inline endpoints that were seen open longest ago, and removes those that are finished from the list:
-- nothing is due, and the job has ended or is gone. A job may still be created for an endpoint that is less than two
-- minutes old.
local function forget_ended_endpoints()
  for _, other in ipairs(redis.call('ZRANGE', open, 0, 199)) do
    local record = redis.call('HMGET', key('ep:' .. other), 'job', 'created')
    local state = record[1] and redis.call('HGET', key('job:' .. record[1]), 'state')
    local ended = state and terminal({state = state}) or not state and int(record[2]) < NOW - 120000
    local over = ended and redis.call('EXISTS', key('due:' .. other)) == 0
    if over then redis.call('ZREM', open, other) else redis.call('ZADD', open, NOW, other) end
  end
end

if known[1] and known[4] ~= tenant then return 'absent' end
if known[1] and int(known[1]) == int(rev) + 1 and known[2] == sealed then return 'ok' end -- a repetition of this change
if int(rev) == 0 then
  if known[1] then return 'conflict' end
  if kind ~= 'inline' and redis.call('ZCARD', mine) >= int(most) then return 'full' end
  if kind == 'inline' and int(most) > 0 and redis.call('ZCARD', open) >= int(most) then
    forget_ended_endpoints()
    if redis.call('ZCARD', open) >= int(most) then return 'full' end
  end
elseif not known[1] then return 'absent'
elseif known[1] ~= rev then return 'conflict' end
local had = int(redis.call('HGET', key('kept:' .. tenant), 'e:' .. ep))
local bytes = ENDPOINT_BYTES + #sealed + #events
local stored = int(redis.call('HGET', key('tenant:' .. tenant), 'stored'))
if bytes > had and int(most_bytes) > 0 and stored + bytes - had > int(most_bytes) then return 'stored' end
keep(tenant, 'e:' .. ep, bytes - had)
if int(rev) == 0 then redis.call('HSET', where, 'created', NOW) end
redis.call('HSET', where, 'tenant', tenant, 'rev', int(rev) + 1, 'sealed', sealed, 'events', events, 'state', state,
  'kind', kind, 'every', every, 'lane', lane)
if kind == 'inline' then
  if int(rev) == 0 then
    redis.call('HSET', where, 'job', job)
    redis.call('PEXPIRE', where, ttl)
    redis.call('ZADD', open, NOW, ep)
    redis.call('PEXPIRE', open, DELIVERY_TTL)
  end
else
  redis.call('ZADD', mine, 'NX', NOW, ep)
  redis.call(every == '1' and 'SADD' or 'SREM', all, ep)
end
if state == 'active' then
  if known[3] == 'disabled' then
    redis.call('HDEL', where, 'reason', 'disabled_at', 'first_fail', 'fails')
    redis.call('ZADD', key('eps'), 'LT', NOW, ep) -- pending deliveries continue
  end
  redis.call('SREM', key('eps_off'), ep)
elseif known[3] ~= 'disabled' then
  redis.call('HSET', where, 'reason', 'by_owner', 'disabled_at', NOW)
  redis.call('SADD', key('eps_off'), ep)
end
return 'ok'
