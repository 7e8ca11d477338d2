#!lua flags=no-writes
-- read_delivery(id): returns {fields, attempts} of a delivery, or an empty list.
local flat = redis.call('HGETALL', key('dlv:' .. ARGV[1]))
if not flat[1] then return {} end
return {flat, redis.call('LRANGE', key('att:' .. ARGV[1]), 0, -1)}
