#!lua flags=no-writes
-- read_queue_seq(queue): returns the latest seq of this queue; read before the broker's list is measured.
return int(redis.call('HGET', key('q:' .. ARGV[1]), 'seq'))
