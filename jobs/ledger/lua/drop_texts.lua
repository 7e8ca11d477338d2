#!lua flags=allow-oom
-- drop_texts(job): deletes the texts of a cancelled job that can no longer be retried; returns 1 if they were still
-- stored.
local job = read_job(ARGV[1])
redis.call('ZREM', key('texts'), ARGV[1])
if not job or not terminal(job) or job.texts_gone then return 0 end
drop_texts(job)
return 1
