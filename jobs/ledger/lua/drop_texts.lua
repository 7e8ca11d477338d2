#!lua flags=allow-oom
-- drop_texts(job): the time is over in which a cancelled job could be retried. 1 if its texts were here until now.
local job = read_job(ARGV[1])
redis.call('ZREM', key('texts'), ARGV[1])
if not job or not terminal(job) or job.texts_gone then return 0 end
drop_texts(job)
return 1
