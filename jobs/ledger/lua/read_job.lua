#!lua flags=no-writes
-- read_job(job): the job as it is now, in one atomic read; or its tombstone.
local job = read_job(ARGV[1])
if job then return {'job', describe(job)} end
local tenant = redis.call('GET', key('gone:' .. ARGV[1]))
if tenant then return {'gone', tenant} end
return {'absent'}
