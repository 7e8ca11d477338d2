#!lua
-- begin_session(session, key_hash, ttl_ms, most): begins a browser's session of an API key; both are stored as
-- hashes. A key has at most `most` sessions: a new one replaces the one that would end first.
local session, hash, ttl = ARGV[1], ARGV[2], int(ARGV[3])
local list = key('sessions:' .. hash)
redis.call('ZREMRANGEBYSCORE', list, '-inf', NOW)
local over = redis.call('ZCARD', list) - int(ARGV[4]) + 1
if over > 0 then
  for _, old in ipairs(redis.call('ZRANGE', list, 0, over - 1)) do
    redis.call('DEL', key('session:' .. old))
    redis.call('ZREM', list, old)
  end
end
redis.call('SET', key('session:' .. session), hash, 'PX', ttl)
redis.call('ZADD', list, NOW + ttl, session)
redis.call('PEXPIRE', list, ttl)
return 1
