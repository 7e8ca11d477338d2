#!lua flags=no-writes
-- read_open_work(tenant, by): open jobs of the key `by`, open jobs and characters of the tenant, bytes that it keeps.
local found = redis.call('HMGET', key('tenant:' .. ARGV[1]), 'jobs:' .. ARGV[2], 'open_jobs', 'open_chars', 'stored')
return {int(found[1]), int(found[2]), int(found[3]), int(found[4])}
