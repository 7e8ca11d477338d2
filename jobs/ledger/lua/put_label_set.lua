#!lua
-- put_label_set(tenant, name, last, sealed, labels, kept, most, most_bytes): stores the version after `last`, the latest
-- one as it was read, of a label set. labels: their number. kept: versions that stay stored; the one before them is
-- removed. most: limit of the tenant's label sets; most_bytes: limit of its stored bytes; 0 is no limit.
-- Returns ok, conflict, full or stored; with ok the first version since the set was created, and the version's time.
local tenant, name, last, sealed, labels, kept, most, most_bytes = unpack(ARGV)
local where, names = key('lset:' .. tenant .. ':' .. name), key('lsets:' .. tenant)
local version = int(last) + 1
local known = redis.call('HMGET', where, 'latest', version, 'first', 'at:' .. version)
if int(known[1]) == version and known[2] == sealed then return {'ok', known[3], known[4]} end -- a repetition
if int(known[1]) ~= int(last) then return {'conflict'} end
local new = redis.call('SISMEMBER', names, name) == 0
if new and redis.call('SCARD', names) >= int(most) then return {'full'} end
local dropped = version - int(kept)
local had, bytes = int(redis.call('HGET', key('kept:' .. tenant), 'l:' .. name)), LABEL_SET_BYTES + #sealed
for older = dropped + 1, int(last) do bytes = bytes + redis.call('HSTRLEN', where, older) end
local stored = int(redis.call('HGET', key('tenant:' .. tenant), 'stored'))
if bytes > had and int(most_bytes) > 0 and stored + bytes - had > int(most_bytes) then return {'stored'} end
keep(tenant, 'l:' .. name, bytes - had)
local first = new and version or known[3] -- a deleted set's versions are not numbered again
redis.call('HSET', where, 'latest', version, 'first', first, 'labels', labels, version, sealed, 'at:' .. version, NOW)
redis.call('HDEL', where, dropped, 'at:' .. dropped)
redis.call('PERSIST', where)
redis.call('SADD', names, name)
return {'ok', tostring(first), tostring(NOW)}
