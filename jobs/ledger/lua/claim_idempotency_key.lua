#!lua
-- claim_idempotency_key(tenant, hash, nonce, body_sha): claims an Idempotency-Key for a short time, or returns its
-- state. It is safe that a claim expires, because create_job checks the nonce; until then, a client whose first
-- request was interrupted has to wait. The response of a job that was removed is gone: `purged`. body_sha is empty
-- for a stream, whose hash is known only at its end: the reply may then be `known`, and the caller asks again with
-- the hash.
local PENDING = 20000
local tenant, hash, nonce, sha = unpack(ARGV)
local where = key('idem:' .. tenant .. ':' .. hash)
local known = redis.call('HMGET', where, 'state', 'nonce', 'body_sha', 'answer')
if not known[1] then
  redis.call('HSET', where, 'state', 'pending', 'nonce', nonce, 'body_sha', sha)
  redis.call('PEXPIRE', where, PENDING)
  return {'run', '', NOW}
end
if known[1] == 'gone' then return {'purged', '', NOW} end
if sha == '' and known[1] == 'done' then return {'known', '', NOW} end
if sha ~= '' and known[3] ~= '' and known[3] ~= sha then return {'reused', '', NOW} end
if known[1] == 'done' then return {'replay', known[4], NOW} end
if known[2] == nonce then
  redis.call('PEXPIRE', where, PENDING)
  return {'run', '', NOW}
end
return {'in_progress', '', NOW}
