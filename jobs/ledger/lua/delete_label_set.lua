#!lua flags=allow-oom
-- delete_label_set(tenant, name): removes a label set; the number of its latest version stays for 7 days, so that a
-- new set of this name does not repeat it. Returns 1 if it existed.
local tenant, name = ARGV[1], ARGV[2]
local where = key('lset:' .. tenant .. ':' .. name)
if redis.call('SREM', key('lsets:' .. tenant), name) == 0 then return 0 end
local latest = redis.call('HGET', where, 'latest')
redis.call('UNLINK', where)
redis.call('HSET', where, 'latest', latest)
redis.call('EXPIRE', where, TOMBSTONE)
forget(tenant, 'l:' .. name)
return 1
