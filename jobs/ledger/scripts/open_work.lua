#!lua flags=no-writes
-- open_work(tenant, by): open jobs of the key `by`, open jobs and characters of the tenant.
local found = redis.call('HMGET', key('tenant:' .. ARGV[1]), 'jobs:' .. ARGV[2], 'open_jobs', 'open_chars')
return {int(found[1]), int(found[2]), int(found[3])}
