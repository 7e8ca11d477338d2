#!lua
-- stage(job, bytes, ttl_ms, ids, shard, blob, shard, blob, ...): keeps payloads of a job that is still arriving.
-- ids: JSON [doc id, index, ...] or ''. Without payloads it only keeps what is there for longer.
local id, bytes, ttl, ids = ARGV[1], int(ARGV[2]), int(ARGV[3]), ARGV[4] ~= '' and cjson.decode(ARGV[4]) or {}
if redis.call('EXISTS', key('job:' .. id)) == 1 then return 'exists' end
local used, most = memory()
local reserved = int(redis.call('HGET', key('sys'), 'reserve'))
if bytes > 0 and most > 0 and used + reserved + bytes * 3 > 0.7 * most then return 'memory_full' end
local new = redis.call('EXISTS', key('in:' .. id)) == 0
if #ARGV > 4 then redis.call('HSET', key('in:' .. id), unpack(ARGV, 5)) end
bulk('HSET', key('ids:' .. id), ids)
redis.call('PEXPIRE', key('in:' .. id), ttl)
redis.call('PEXPIRE', key('ids:' .. id), ttl)
redis.call('ZADD', key('staging'), NOW + ttl, id)
redis.call('HINCRBY', key('sys'), 'reserve', bytes * 3)
redis.call('HINCRBY', key('staged'), id, bytes * 3)
return new and 'new' or 'more'
