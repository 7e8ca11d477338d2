#!lua flags=allow-oom
-- expire_job(job): ends a job at once if its deadline has passed; results of shards that are still running are
-- refused as stale.
local job = read_job(ARGV[1])
if not job then
  redis.call('ZREM', key('deadlines'), ARGV[1])
  return 'absent'
end
if terminal(job) then
  redis.call('ZREM', key('deadlines'), ARGV[1])
  return 'already'
end
if int(job.deadline) > NOW then return 'early' end
local st, count = 'x', 'exp'
if job.state == 'cancelling' then st, count = 'c', 'canc' end
local ended = end_shards(job, st, function(r) return r.st ~= 'd' and r.st ~= 'c' and r.st ~= 'x' end)
job[count] = redis.call('HINCRBY', key('job:' .. job.id), count, ended)
close(job)
changed(job.id)
return 'expired'
