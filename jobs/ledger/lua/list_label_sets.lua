#!lua flags=no-writes
-- list_label_sets(tenant): returns each label set's name, latest and first version, the latest one's number of labels
-- and time; in no order.
local out = {}
for _, name in ipairs(redis.call('SMEMBERS', key('lsets:' .. ARGV[1]))) do
  local where = key('lset:' .. ARGV[1] .. ':' .. name)
  local head = redis.call('HMGET', where, 'latest', 'first', 'labels')
  out[#out + 1] = {name, head[1], head[2], head[3], redis.call('HGET', where, 'at:' .. head[1])}
end
return out
