#!lua flags=allow-oom
-- report_model_error(slug, reason): why workers of this model cannot start; a worker that starts clears it.
redis.call('HSET', key('model:' .. ARGV[1]), 'reason', ARGV[2])
return 1
