#!lua flags=no-writes
-- find_session_key(session): returns the hash of the session's API key, or ''.
return redis.call('GET', key('session:' .. ARGV[1])) or ''
