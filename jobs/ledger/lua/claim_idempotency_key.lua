#!lua
-- claim_idempotency_key(tenant, hash, nonce, body_sha): claims an Idempotency-Key for a while, or says what became of it. A lapsed
-- claim is no danger (create checks the nonce); it is what a client waits after its first request was cut off.
-- A job that was removed took its answer along: `purged`. An empty body_sha is a stream's, whose hash is known at its end only: it may be `known`, to be asked again then.
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
