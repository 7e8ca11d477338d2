#!lua flags=allow-oom
-- redeliver(id): schedules a delivery again at once, with its retry schedule from the beginning. Returns queued,
-- disabled, flying or absent.
local id = ARGV[1]
local d = redis.call('HMGET', key('dlv:' .. id), 'ep', 'state', 'lease', 'job')
local state = d[1] and redis.call('HGET', key('ep:' .. d[1]), 'state')
if not state then return 'absent' end
if state ~= 'active' then return 'disabled' end
if d[2] == 'flying' and int(d[3]) > NOW then return 'flying' end
redis.call('HSET', key('dlv:' .. id), 'state', 'due', 'n', 0, 'next', NOW, 'ended', 0)
redis.call('PEXPIRE', key('dlv:' .. id), DELIVERY_TTL)
redis.call('PEXPIRE', key('att:' .. id), DELIVERY_TTL)
redis.call('PEXPIRE', key('event:' .. d[4]), DELIVERY_TTL)
redis.call('PEXPIRE', key('ep:' .. d[1]), DELIVERY_TTL, 'XX') -- only an inline endpoint expires
look_at(d[1], id, NOW)
return 'queued'
