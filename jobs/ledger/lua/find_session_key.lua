#!lua flags=no-writes
-- find_session_key(session): the hash of the API key that the session stands for; '' where there is none.
return redis.call('GET', key('session:' .. ARGV[1])) or ''
