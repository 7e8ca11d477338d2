#!lua flags=no-writes
-- read_endpoint(ep): returns the current time, then the endpoint's fields as names and values, if it exists.
local flat = redis.call('HGETALL', key('ep:' .. ARGV[1]))
table.insert(flat, 1, NOW)
return flat
