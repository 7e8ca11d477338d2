#!lua flags=allow-oom
-- drop_stage(job, now): removes a stage that has expired (now = '1': any stage) and releases its reserved memory,
-- once.
local id = ARGV[1]
local until_ = redis.call('ZSCORE', key('staging'), id)
if not until_ or ARGV[2] ~= '1' and tonumber(until_) > NOW then return 0 end
local reserved = int(redis.call('HGET', key('staged'), id))
if redis.call('EXISTS', key('job:' .. id)) == 0 then
  local tenant = redis.call('HGET', key('stage:' .. id), 'tenant')
  redis.call('UNLINK', key('in:' .. id), key('ids:' .. id), key('stage:' .. id))
  if tenant and tenant ~= '' then forget(tenant, id) end
end
redis.call('ZREM', key('staging'), id)
redis.call('HDEL', key('staged'), id)
redis.call('HINCRBY', key('sys'), 'reserve', -reserved)
return 1
