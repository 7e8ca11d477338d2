#!lua flags=no-writes
-- read_endpoint(ep): the endpoint's fields as name, value, ..., or an empty list; its first entry is always the time.
local flat = redis.call('HGETALL', key('ep:' .. ARGV[1]))
table.insert(flat, 1, NOW)
return flat
