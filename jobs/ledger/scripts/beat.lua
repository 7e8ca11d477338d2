#!lua flags=allow-oom
-- beat(lease_ms): upkeep's tick. After a silence of more than 10 s (an outage) no lease expires for one lease, so
-- that workers can renew first. Returns what is due: jobs past their deadline, jobs to purge, lapsed stages; and
-- the queues there are.
local lease = int(ARGV[1])
local last = int(redis.call('HGET', key('sys'), 'beat'))
if NOW - last > 10000 then redis.call('HSET', key('sys'), 'no_expire_until', NOW + lease) end
redis.call('HSET', key('sys'), 'beat', NOW)
local function due(name) return redis.call('ZRANGEBYSCORE', key(name), '-inf', NOW, 'LIMIT', 0, 100) end
return {due('deadlines'), due('purge'), due('staging'), redis.call('SMEMBERS', key('queues'))}
