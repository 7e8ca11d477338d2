#!lua
-- ping_write(): makes a real write, which is refused if the server is full or read-only.
redis.call('SET', key('ping'), NOW, 'EX', 60)
return NOW
