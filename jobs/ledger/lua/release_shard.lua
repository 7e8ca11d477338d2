#!lua flags=allow-oom
-- release_shard(job, shard, nonce): a worker returns a shard that it did not finish (drain, cancellation); the caller
-- pushes the new message and acknowledges the old one. Does not count as an attempt.
local id, shard, nonce = unpack(ARGV)
local job = read_job(id)
local record = job and read_shard(id, shard)
if not record or terminal(job) or record.st ~= 'r' or record.nonce ~= nonce then return {'stale'} end
redis.call('SREM', key('run:' .. record.worker), member(id, shard))
job.run = redis.call('HINCRBY', key('job:' .. id), 'run', -record.ndocs)
local reply
if job.state == 'cancelling' then
  record.st, record.nonce = 'c', ''
  write_shard(id, shard, record)
  settle(job, shard, record.chars)
  job.canc = redis.call('HINCRBY', key('job:' .. id), 'canc', record.ndocs)
  redis.call('HINCRBY', key('job:' .. id), 'inq', -1)
  if int(job.run) == 0 then close(job) end
  reply = {'cancelled'}
else
  record.attempts = math.max(0, record.attempts - 1)
  reply = {'released', tostring(shard), tostring(publish_one(job, shard, record)), job.queue}
end
changed(id)
return reply
