#!lua flags=allow-oom
-- release_idempotency_key(tenant, hash, nonce): releases the key of a submission that was refused.
local where = key('idem:' .. ARGV[1] .. ':' .. ARGV[2])
local known = redis.call('HMGET', where, 'state', 'nonce')
if known[1] == 'pending' and known[2] == ARGV[3] then return redis.call('DEL', where) end
return 0
