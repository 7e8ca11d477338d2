#!lua flags=allow-oom
-- delete_endpoint(ep): removes an endpoint and all deliveries to it; returns 1 if it existed.
local ep = ARGV[1]
local tenant = redis.call('HGET', key('ep:' .. ep), 'tenant')
if not tenant then return 0 end
unlink_endpoint(ep, tenant)
return 1
