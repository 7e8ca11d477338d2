#!lua flags=no-writes
-- read_open_work(tenant, by): returns the open jobs of the key `by`, and the tenant's open jobs, open characters and
-- stored bytes.
local found = redis.call('HMGET', key('tenant:' .. ARGV[1]), 'jobs:' .. ARGV[2], 'open_jobs', 'open_chars', 'stored')
return {int(found[1]), int(found[2]), int(found[3]), int(found[4])}
