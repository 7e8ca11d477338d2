#!lua flags=allow-oom
-- cancel_job(job): ends the shards that are not running; running ones may finish. If none runs, the job ends at once.
local job = read_job(ARGV[1])
if not job then return 'absent' end
if terminal(job) or job.state == 'cancelling' then return 'already' end
local ended = end_shards(job, 'c', function(r) return r.st == 'w' or r.st == 'p' or r.st == 'f' end)
job.canc = redis.call('HINCRBY', key('job:' .. job.id), 'canc', ended)
local answer
if int(job.run) == 0 then
  close(job)
  answer = 'closed'
else
  redis.call('HSET', key('job:' .. job.id), 'state', 'cancelling')
  redis.call('ZREM', key('queued:' .. job.queue), job.id)
  answer = 'cancelling'
end
changed(job.id)
return answer
