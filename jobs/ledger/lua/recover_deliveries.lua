#!lua flags=allow-oom
-- recover_deliveries(ep, since, skip): schedules failed deliveries since a time again; looks at 500 per call, without
-- the first `skip`. Returns {queued, looked at}, or {-1, 0} if the endpoint is disabled.
local ep, since, skip = ARGV[1], ARGV[2], int(ARGV[3])
if redis.call('HGET', key('ep:' .. ep), 'state') ~= 'active' then return {-1, 0} end
local found = redis.call('ZRANGEBYSCORE', key('dlvs:' .. ep), since, '+inf', 'LIMIT', skip, 500)
local queued = 0
for _, id in ipairs(found) do
  local d = redis.call('HMGET', key('dlv:' .. id), 'state', 'job')
  if d[1] == 'failed' then
    redis.call('HSET', key('dlv:' .. id), 'state', 'due', 'n', 0, 'next', NOW, 'ended', 0)
    redis.call('PEXPIRE', key('dlv:' .. id), DELIVERY_TTL)
    redis.call('PEXPIRE', key('att:' .. id), DELIVERY_TTL)
    redis.call('PEXPIRE', key('event:' .. d[2]), DELIVERY_TTL)
    look_at(ep, id, NOW)
    queued = queued + 1
  end
end
if queued > 0 then redis.call('PEXPIRE', key('ep:' .. ep), DELIVERY_TTL, 'XX') end -- only an inline endpoint expires
return {queued, #found}
