#!lua
-- ping_write(): a real write, refused where the server is full or read-only.
redis.call('SET', key('ping'), NOW, 'EX', 60)
return NOW
