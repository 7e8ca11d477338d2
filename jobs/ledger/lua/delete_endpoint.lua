#!lua flags=allow-oom
-- delete_endpoint(ep): forgets an endpoint and all deliveries to it; 1 if it was there.
local ep = ARGV[1]
local tenant = redis.call('HGET', key('ep:' .. ep), 'tenant')
if not tenant then return 0 end
unlink_endpoint(ep, tenant)
return 1
