#!lua flags=no-writes
-- read_queue_seq(queue): the latest seq given out for this queue; read before the broker's list is measured.
return int(redis.call('HGET', key('q:' .. ARGV[1]), 'seq'))
