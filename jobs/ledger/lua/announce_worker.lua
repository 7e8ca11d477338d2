#!lua flags=allow-oom
-- announce_worker(slug, worker, ttl_ms, slots, revision, facts): a live worker of the model; ttl 0 takes it off the list.
-- facts: JSON of what the model can do, with its revision: an older worker of another one leaves it as it is.
local slug, worker, ttl, slots, revision, facts = unpack(ARGV)
local where = key('workers:' .. slug)
redis.call('ZREMRANGEBYSCORE', where, '-inf', NOW - 3600000)
if int(ttl) == 0 then
  redis.call('ZREM', where, worker)
  return 0
end
redis.call('ZADD', where, NOW + int(ttl), worker)
redis.call('HSET', key('model:' .. slug), 'rev', revision, 'slots', slots, 'reason', '', 'facts', facts)
return 1
