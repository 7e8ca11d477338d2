#!lua flags=no-writes
-- read_stats(slug, queue, queue, ...): returns the current values for metrics. First the server's own values, and the
-- stored bytes of the MOST tenants that store most (operators create tenants, so there are few). Then for each model
-- (its slug and its two queues): open shards, characters, jobs, drain rate, creation time of its oldest open job,
-- live workers, whether they cannot start, and shards that are published but not claimed.
local MOST = 20
local info = redis.call('INFO', 'memory') .. redis.call('INFO', 'persistence')
local function said(name) return string.match(info, name .. ':([%w]+)') or '' end
local out = {NOW, int(said('used_memory')), int(said('maxmemory')), int(said('aof_enabled')),
  said('aof_last_write_status'), said('aof_last_bgrewrite_status'), int(redis.call('HGET', key('sys'), 'beat'))}
local kept, tenants = {}, redis.call('SMEMBERS', key('tenants'))
for i, tenant in ipairs(tenants) do
  kept[i] = {tenant, int(redis.call('HGET', key('tenant:' .. tenant), 'stored'))}
end
table.sort(kept, function(a, b) return a[2] > b[2] end)
out[#out + 1] = {unpack(kept, 1, math.min(#kept, MOST))}
for i = 1, #ARGV, 3 do
  local slug = ARGV[i]
  local m = redis.call('HMGET', key('model:' .. slug), 'open_chars', 'open_jobs', 'drain_rate', 'reason')
  local oldest = redis.call('ZRANGE', key('opened:' .. slug), 0, 0, 'WITHSCORES')
  out[#out + 1] = {redis.call('ZCARD', key('open:' .. slug)), int(m[1]), int(m[2]), m[3] or '0', oldest[2] or '0',
    redis.call('ZCOUNT', key('workers:' .. slug), NOW, '+inf'), (m[4] or '') ~= '' and 1 or 0,
    redis.call('ZCARD', key('pub:' .. ARGV[i + 1])) + redis.call('ZCARD', key('pub:' .. ARGV[i + 2]))}
end
return out
