#!lua flags=allow-oom
-- upkeep_tick(lease_ms, silent_ms, who): begins one round of upkeep. A stand-by (silent_ms > 0) gets an empty reply
-- while another's heartbeat is younger than that; its own heartbeat does not stop it, so that it runs as often as a
-- courier once it has taken over. After a silence of more than 10 s (an outage; half a lease if leases are short), no
-- lease expires for the length of one lease, so that workers can renew first. Returns due work: jobs past their
-- deadline, jobs to purge, expired stages; all queues and models; one open job to audit, in turn; cancelled jobs
-- whose texts are to be deleted; records to wipe; and a tenant to sweep.
local lease, silent = int(ARGV[1]), int(ARGV[2])
local latest = redis.call('HMGET', key('sys'), 'beat', 'beat_by')
local last = int(latest[1])
if NOW - last < silent and latest[2] ~= ARGV[3] then return {} end
if NOW - last > math.min(10000, lease / 2) then redis.call('HSET', key('sys'), 'no_expire_until', NOW + lease) end
redis.call('HSET', key('sys'), 'beat', NOW, 'beat_by', ARGV[3])
local function due(name) return redis.call('ZRANGEBYSCORE', key(name), '-inf', NOW, 'LIMIT', 0, 100) end
local open = redis.call('ZCARD', key('deadlines'))
local audit = {}
if open > 0 then
  local turn = redis.call('HINCRBY', key('sys'), 'audit_turn', 1) % open
  audit = redis.call('ZRANGE', key('deadlines'), turn, turn)
end
return {due('deadlines'), due('purge'), due('staging'), redis.call('SMEMBERS', key('queues')),
  redis.call('SMEMBERS', key('slugs')), audit, due('texts'), redis.call('SRANDMEMBER', key('wipes'), 20),
  redis.call('SRANDMEMBER', key('tenants'), 1)}
