#!lua flags=allow-oom
-- mark(worker, ttl_ms, job:shard...): the shards of the forward that begins now; they are the suspects if the
-- process dies in it. Outlives the lease.
local where = key('run:' .. ARGV[1])
redis.call('DEL', where)
if #ARGV > 2 then
  redis.call('SADD', where, unpack(ARGV, 3))
  redis.call('PEXPIRE', where, ARGV[2])
end
return 1
