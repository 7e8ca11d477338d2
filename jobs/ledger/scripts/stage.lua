#!lua
-- stage(job, bytes, ttl_ms, shard, blob, shard, blob, ...): keeps payloads of a job that is still arriving.
local id, bytes, ttl = ARGV[1], int(ARGV[2]), int(ARGV[3])
if redis.call('EXISTS', key('job:' .. id)) == 1 then return {'exists'} end
local new = redis.call('EXISTS', key('in:' .. id)) == 0
redis.call('HSET', key('in:' .. id), unpack(ARGV, 4))
redis.call('PEXPIRE', key('in:' .. id), ttl)
redis.call('ZADD', key('staging'), NOW + ttl, id)
redis.call('HINCRBY', key('sys'), 'reserve', bytes * 3)
redis.call('HINCRBY', key('staged'), id, bytes * 3)
return {new and 'new' or 'more'}
