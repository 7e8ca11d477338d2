#!lua flags=allow-oom
-- purge(job): removes every trace of a terminal job but a tombstone that knows its tenant for 7 days.
local id = ARGV[1]
local job = read_job(id)
if not job then
  redis.call('ZREM', key('purge'), id)
  return redis.call('EXISTS', key('gone:' .. id)) == 1 and 'gone' or 'absent'
end
if not terminal(job) then return 'not_terminal' end
redis.call('UNLINK', key('in:' .. id), key('out:' .. id), key('sh:' .. id), key('ids:' .. id), key('part:' .. id),
  key('job:' .. id))
redis.call('SET', key('gone:' .. id), job.tenant, 'EX', TOMBSTONE)
redis.call('ZREM', key('purge'), id)
redis.call('ZREM', key('jobs:' .. job.tenant), id)
redis.call('PUBLISH', key('ch:' .. id), 'gone')
return 'purged'
