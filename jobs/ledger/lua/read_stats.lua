#!lua flags=no-writes
-- read_stats('all', slug, queue, queue, ...) or read_stats('models', slug, ...): returns the time, the state of the
-- server, and the state of each model and its two queues; 'models' leaves out server and queues, most of the cost.
-- Server: used and maximum bytes, append-only file on, status of its last write and rewrite, connected replicas, time of
-- the last upkeep tick, and the stored bytes of the MOST tenants that store most (operators create tenants, so there are few).
-- Model: live workers, creation time of the oldest open job, open shards, fields of its record; for each queue its
-- open jobs, jobs that have not begun, and shards published but not claimed.
local MOST = 20

local function read_server()
  local info = redis.call('INFO', 'memory') .. redis.call('INFO', 'persistence') .. redis.call('INFO', 'replication')
  local function field(name) return string.match(info, name .. ':([%w]+)') or '' end
  local stored, tenants = {}, redis.call('SMEMBERS', key('tenants'))
  for i, tenant in ipairs(tenants) do
    stored[i] = {tenant, int(redis.call('HGET', key('tenant:' .. tenant), 'stored'))}
  end
  table.sort(stored, function(a, b) return a[2] > b[2] end)
  return {int(field('used_memory')), int(field('maxmemory')), int(field('aof_enabled')),
    field('aof_last_write_status'), field('aof_last_bgrewrite_status'), int(field('connected_slaves')), int(redis.call('HGET', key('sys'), 'beat')),
    {unpack(stored, 1, math.min(#stored, MOST))}}
end

local function read_queue(queue)
  return {int(redis.call('HGET', key('q:' .. queue), 'jobs')), redis.call('ZCARD', key('queued:' .. queue)),
    redis.call('ZCARD', key('pub:' .. queue))}
end

local all = ARGV[1] == 'all'
local out = {NOW, all and read_server() or {}}
for i = 2, #ARGV, all and 3 or 1 do
  local slug = ARGV[i]
  local record = redis.call('HMGET', key('model:' .. slug), 'open_jobs', 'open_chars', 'slots', 'drain_rate', 'rev',
    'reason', 'facts')
  for n = 1, #record do record[n] = record[n] or '' end
  out[#out + 1] = {redis.call('ZCOUNT', key('workers:' .. slug), NOW, '+inf'),
    redis.call('ZRANGE', key('opened:' .. slug), 0, 0, 'WITHSCORES')[2] or '', redis.call('ZCARD', key('open:' .. slug)),
    record, unpack(all and {read_queue(ARGV[i + 1]), read_queue(ARGV[i + 2])} or {})}
end
return out
