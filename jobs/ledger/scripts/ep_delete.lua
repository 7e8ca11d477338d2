#!lua flags=allow-oom
-- ep_delete(ep): forgets an endpoint and whatever was still to be delivered to it; 1 if it was there.
local ep = ARGV[1]
local tenant = redis.call('HGET', key('ep:' .. ep), 'tenant')
if not tenant then return 0 end
redis.call('UNLINK', key('ep:' .. ep), key('due:' .. ep), key('dlvs:' .. ep))
redis.call('ZREM', key('eps'), ep)
redis.call('SREM', key('eps_off'), ep)
redis.call('ZREM', key('epl:' .. tenant), ep)
redis.call('SREM', key('eps:' .. tenant), ep)
return 1
