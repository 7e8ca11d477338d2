#!lua flags=allow-oom
-- record_delivery(id, nonce, outcome, delay_ms, attempt, body, disable, disable_after_ms): records one attempt.
-- outcome: delivered, retry (after delay_ms) or failed. attempt: JSON; body: the receiver's response, encoded.
-- disable: the reason to disable the endpoint, or ''; it is also disabled if all attempts failed for
-- disable_after_ms. Returns {delivered | retry | failed | already | stale | gone, reason if the endpoint was disabled
-- now, or ''}.
local id, nonce, outcome, delay, attempt, body, disable, patience = unpack(ARGV)
local where = key('dlv:' .. id)
local d = fields(where)
if not d.ep then return {'gone', ''} end
if d.done_nonce == nonce then return {'already', ''} end
local ours = d.state == 'flying' and d.nonce == nonce
-- A success of a courier that was thought dead is accepted; a failure is not.
if not ours and (outcome ~= 'delivered' or d.state == 'delivered') then return {'stale', ''} end
local ms = int(cjson.decode(attempt).ms)
local ep_key = key('ep:' .. d.ep)
local ep = redis.call('HMGET', ep_key, 'state', 'lane', 'first_fail', 'kind')
local ended = outcome ~= 'retry'
local ttl = ended and 7 * 24 * HOUR or DELIVERY_TTL
if ended and ep[4] == 'inline' then ttl = outcome == 'delivered' and HOUR or 24 * HOUR end -- it belongs to one job
redis.call('HSET', where, 'state', ended and outcome or 'due', 'n', int(d.n) + 1, 'done_nonce', nonce, 'nonce', '',
  'next', ended and 0 or NOW + int(delay), 'ended', ended and NOW or 0)
add_attempt(d.tenant, id, attempt .. '\n' .. (d.erased and '' or body)) -- a response may repeat the request
redis.call('PEXPIRE', where, ttl)
redis.call('PEXPIRE', key('att:' .. id), ttl)
if not ep[1] then -- its endpoint was deleted in the meantime
  leave_hand('', d.tenant, id)
  return {outcome, ''}
end
if ended and ep[4] == 'inline' then
  redis.call('PEXPIRE', ep_key, ttl)
  if int(redis.call('HGET', key('event:' .. d.job), 'refs')) == 1 then redis.call('PEXPIRE', key('event:' .. d.job), ttl) end
end
redis.call('ZREM', key('fly:' .. ep[2]), id)
leave_hand(ep[2], d.tenant, id)
note_pace(ep[2], ms)
note_pace('@' .. d.tenant, ms)
if ended then
  redis.call('ZREM', key('due:' .. d.ep), id)
  trim_deliveries(d.ep)
else look_at(d.ep, id, NOW + int(delay)) end
if outcome == 'delivered' then
  redis.call('UNLINK', key('bad:' .. ep[2]))
  redis.call('HDEL', ep_key, 'fails', 'first_fail')
  redis.call('HSET', ep_key, 'last_ok', NOW)
else
  redis.call('SET', key('bad:' .. ep[2]), 1, 'PX', 3600000)
  redis.call('HINCRBY', ep_key, 'fails', 1)
  redis.call('HSETNX', ep_key, 'first_fail', NOW)
  redis.call('HSET', ep_key, 'last_fail', NOW)
  if disable == '' and NOW - int(ep[3] or NOW) >= int(patience) then disable = 'only_failures' end
end
if ended and d.erased and ep[4] == 'inline' then -- its job was deleted
  unlink_endpoint(d.ep, d.tenant)
  return {outcome, ''}
end
if disable == '' or ep[1] ~= 'active' then return {outcome, ''} end
redis.call('HSET', ep_key, 'state', 'disabled', 'reason', disable, 'disabled_at', NOW)
redis.call('SADD', key('eps_off'), d.ep)
redis.call('ZREM', key('eps'), d.ep)
return {outcome, disable}
