#!lua flags=allow-oom
-- republish_deferred(job, shard): publishes a shard again that an older worker deferred because its format was too
-- new.
local id, shard = unpack(ARGV)
local job = read_job(id)
local record = job and read_shard(id, shard)
if not record or terminal(job) or record.st ~= 'f' then return {'gone'} end
return {'published', tostring(shard), tostring(publish_one(job, shard, record)), job.queue}
