#!lua flags=allow-oom
-- set_crash_suspects(worker, ttl_ms, left, job:shard...): updates a worker's list of shards at risk: the first `left`
-- are removed, the others added. They are the suspects if the process crashes. The list outlives the leases.
local left, gone, kept = int(ARGV[3]), {}, {}
for i = 4, #ARGV do
  local list = i < 4 + left and gone or kept
  list[#list + 1] = ARGV[i]
end
local where = key('run:' .. ARGV[1])
bulk('SREM', where, gone)
bulk('SADD', where, kept)
redis.call('PEXPIRE', where, ARGV[2])
return 1
