#!lua flags=allow-oom
-- end_session(session): ends a session; returns 1 if it existed.
local hash = redis.call('GET', key('session:' .. ARGV[1]))
if not hash then return 0 end
redis.call('DEL', key('session:' .. ARGV[1]))
redis.call('ZREM', key('sessions:' .. hash), ARGV[1])
return 1
