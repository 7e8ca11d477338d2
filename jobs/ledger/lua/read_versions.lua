#!lua flags=no-writes
-- read_versions(job...): returns each job's version; -1 if it does not exist.
local versions = {}
for i, id in ipairs(ARGV) do versions[i] = tonumber(redis.call('HGET', key('job:' .. id), 'v') or '-1') end
return versions
