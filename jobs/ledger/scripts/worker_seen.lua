#!lua flags=allow-oom
-- worker_seen(slug, worker, ttl_ms, slots, revision): a live worker of the model; ttl 0 takes it off the list.
local slug, worker, ttl, slots, revision = unpack(ARGV)
local where = key('workers:' .. slug)
redis.call('ZREMRANGEBYSCORE', where, '-inf', NOW - 3600000)
if int(ttl) == 0 then
  redis.call('ZREM', where, worker)
  return 0
end
redis.call('ZADD', where, NOW + int(ttl), worker)
redis.call('HSET', key('model:' .. slug), 'rev', revision, 'slots', slots, 'reason', '')
return 1
