#!lua
-- ep_put(ep, tenant, rev, sealed, events, state, kind, every, lane, ttl_ms, most): makes (rev 0) or changes (rev as
-- it was read) an endpoint. every: '1' if it hears of every job of its tenant. Returns ok, conflict, absent or full.
local ep, tenant, rev, sealed, events, state, kind, every, lane, ttl, most = unpack(ARGV)
local where, mine, all = key('ep:' .. ep), key('epl:' .. tenant), key('eps:' .. tenant)
local known = redis.call('HMGET', where, 'rev', 'sealed', 'state', 'tenant')
if known[1] and known[4] ~= tenant then return 'absent' end
if known[1] and int(known[1]) == int(rev) + 1 and known[2] == sealed then return 'ok' end -- said before
if int(rev) == 0 then
  if known[1] then return 'conflict' end
  if kind ~= 'inline' and redis.call('ZCARD', mine) >= int(most) then return 'full' end
  redis.call('HSET', where, 'created', NOW)
elseif not known[1] then return 'absent'
elseif known[1] ~= rev then return 'conflict' end
redis.call('HSET', where, 'tenant', tenant, 'rev', int(rev) + 1, 'sealed', sealed, 'events', events, 'state', state,
  'kind', kind, 'every', every, 'lane', lane)
if kind == 'inline' then
  if int(rev) == 0 then redis.call('PEXPIRE', where, ttl) end
else
  redis.call('ZADD', mine, 'NX', NOW, ep)
  redis.call(every == '1' and 'SADD' or 'SREM', all, ep)
end
if state == 'active' then
  if known[3] == 'disabled' then
    redis.call('HDEL', where, 'reason', 'disabled_at', 'first_fail', 'fails')
    redis.call('ZADD', key('eps'), 'LT', NOW, ep) -- what waited goes on
  end
  redis.call('SREM', key('eps_off'), ep)
elseif known[3] ~= 'disabled' then
  redis.call('HSET', where, 'reason', 'by_owner', 'disabled_at', NOW)
  redis.call('SADD', key('eps_off'), ep)
end
return 'ok'
