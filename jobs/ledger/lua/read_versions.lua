#!lua flags=no-writes
-- read_versions(job...): each job's version; -1 where there is no job.
local versions = {}
for i, id in ipairs(ARGV) do versions[i] = tonumber(redis.call('HGET', key('job:' .. id), 'v') or '-1') end
return versions
