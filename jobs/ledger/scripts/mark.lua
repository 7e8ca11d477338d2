#!lua flags=allow-oom
-- mark(worker, ttl_ms, job:shard...): the shards that are being cut, in the model or decoded from now on; they are
-- the suspects if the process dies. Outlives the lease.
local where = key('run:' .. ARGV[1])
redis.call('DEL', where)
if #ARGV > 2 then
  redis.call('SADD', where, unpack(ARGV, 3))
  redis.call('PEXPIRE', where, ARGV[2])
end
return 1
