#!lua flags=allow-oom
-- announce_worker(slug, worker, ttl_ms, slots, revision, facts): registers a live worker of the model; ttl 0 removes
-- it. facts: JSON of the model's limits and defaults, with its revision. A worker of an older version does not update
-- them; readers ignore facts of another revision.
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
