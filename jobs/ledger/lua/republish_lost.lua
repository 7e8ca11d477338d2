#!lua flags=allow-oom
-- republish_lost(queue, seq, llen, grace_ms): publishes shards again whose message was lost. kombu's lists are
-- first-in first-out: once a message with a higher seq has been read (`head`), a shard that was published earlier and
-- is still unclaimed after the grace period has no message. `seq` was read before `llen`; if the list is empty, all
-- messages were read.
local queue, seq, llen, grace = ARGV[1], int(ARGV[2]), int(ARGV[3]), int(ARGV[4])
local q = key('q:' .. queue)
local have = redis.call('HMGET', q, 'head', 'safe', 'cut', 'cut_at')
local head, safe, cut, cut_at = int(have[1]), int(have[2]), int(have[3]), int(have[4])
if llen == 0 then head = math.max(head, seq) end
if NOW - cut_at >= grace then safe, cut, cut_at = cut, head, NOW end
local lost = redis.call('ZRANGEBYSCORE', key('pub:' .. queue), '-inf', safe, 'LIMIT', 0, 200)
redis.call('HSET', q, 'head', head, 'safe', safe, 'cut', cut, 'cut_at', cut_at)
local reply = {}
for _, name in ipairs(lost) do
  local id, shard = string.match(name, '^(.*):(%d+)$')
  local job = read_job(id)
  local record = job and read_shard(id, shard)
  if not record or terminal(job) or record.st ~= 'p' then redis.call('ZREM', key('pub:' .. queue), name)
  else
    reply[#reply + 1] = id
    reply[#reply + 1] = shard
    reply[#reply + 1] = tostring(publish_one(job, shard, record))
  end
end
if #reply > 0 then redis.call('HINCRBY', key('sys'), 'republished', #reply / 3) end
-- Tenants with more to publish, those that were checked longest ago first. A share may have free places although none
-- of the tenant's shards was completed (a cancelled job, new workers), or may seem full because of shards that an
-- older version removed from the queue.
local turns = {}
for _, tenant in ipairs(redis.call('ZRANGE', key('hungry:' .. queue), 0, 19)) do
  redis.call('ZADD', key('hungry:' .. queue), NOW, tenant)
  local flight = in_flight(queue, tenant)
  for _, name in ipairs(redis.call('ZRANGE', flight, 0, 99)) do
    local id, shard = string.match(name, '^(.*):(%d+)$')
    local record = read_shard(id, shard)
    if not record or record.st ~= 'p' and record.st ~= 'r' and record.st ~= 'f' then redis.call('ZREM', flight, name) end
  end
  local id = redis.call('ZRANGE', waiting_jobs(queue, tenant), 0, 0)[1]
  local slug = id and redis.call('HGET', key('job:' .. id), 'slug')
  if slug then for _, value in ipairs(publish_next(queue, tenant, slug)) do turns[#turns + 1] = value end
  elseif id then leave_turn(queue, tenant, id)
  else redis.call('ZREM', key('hungry:' .. queue), tenant) end
end
return {reply, turns}
