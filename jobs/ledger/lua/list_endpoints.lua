#!lua flags=no-writes
-- list_endpoints(tenant): returns the current time, then the tenant's endpoints, oldest first, each as id and fields.
local out = {NOW}
for _, ep in ipairs(redis.call('ZRANGE', key('epl:' .. ARGV[1]), 0, -1)) do
  out[#out + 1] = {ep, redis.call('HGETALL', key('ep:' .. ep))}
end
return out
