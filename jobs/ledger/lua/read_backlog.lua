#!lua flags=no-writes
-- read_backlog(slug, queue...): returns a model's open work, its drain rate, and the state of its queues.
local slug = ARGV[1]
local m = redis.call('HMGET', key('model:' .. slug), 'open_jobs', 'open_chars', 'drain_rate', 'slots', 'reason')
local oldest = redis.call('ZRANGE', key('opened:' .. slug), 0, 0, 'WITHSCORES')
local reply = {NOW, redis.call('ZCOUNT', key('workers:' .. slug), NOW, '+inf'), int(m[4]), int(m[1]), int(m[2]),
  redis.call('ZCARD', key('open:' .. slug)), m[3] or '0', oldest[2] or '', m[5] or ''}
for i = 2, #ARGV do
  local queue = ARGV[i]
  reply[#reply + 1] = {int(redis.call('HGET', key('q:' .. queue), 'jobs')), redis.call('ZCARD', key('queued:' .. queue)),
    redis.call('ZCARD', key('pub:' .. queue))}
end
return reply
