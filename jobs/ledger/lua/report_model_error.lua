#!lua flags=allow-oom
-- report_model_error(slug, reason): stores why workers of this model cannot start; the next worker that starts clears
-- it.
redis.call('HSET', key('model:' .. ARGV[1]), 'reason', ARGV[2])
return 1
