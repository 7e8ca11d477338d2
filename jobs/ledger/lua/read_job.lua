#!lua flags=no-writes
-- read_job(job): returns the current job in one atomic read, or its tombstone.
local job = read_job(ARGV[1])
if job then return {'job', describe(job)} end
local tenant = redis.call('GET', key('gone:' .. ARGV[1]))
if tenant then return {'gone', tenant} end
return {'absent'}
