#!lua flags=no-writes
-- page(job, shard, max_bytes): the finished shards from `shard` on, up to the first unfinished one or about
-- max_bytes; with the job as it is in the same moment. Cancelled and expired shards come with their payload.
local id = ARGV[1]
local job = read_job(id)
if job then return page(job, int(ARGV[2]), int(ARGV[3])) end
local tenant = redis.call('GET', key('gone:' .. id))
return tenant and {'gone', tenant} or {'absent'}
