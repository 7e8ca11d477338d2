#!lua flags=allow-oom
-- reclaim_shard(job, shard): publishes a shard again whose worker stopped renewing its lease. If the shard was on
-- that worker's list of shards at risk, it is a crash suspect and runs alone from now on. A crash while it ran alone
-- counts against the document `at`.
local id, shard = unpack(ARGV)
local job = read_job(id)
local record = job and read_shard(id, shard)
local hold = int(redis.call('HGET', key('sys'), 'no_expire_until'))
if not record or terminal(job) then
  return {'gone'}
end
if NOW < hold or record.st ~= 'r' or record.until_ > NOW then return {'early'} end
local at_risk = key('run:' .. record.worker)
local suspect = redis.call('SISMEMBER', at_risk, member(id, shard)) == 1
local only = redis.call('SCARD', at_risk) == 1 -- else the crash has another possible cause
local where = key('job:' .. id)
job.run = redis.call('HINCRBY', where, 'run', -record.ndocs)
redis.call('HINCRBY', key('sys'), 'leases_lost', 1)
local reply
if job.state == 'cancelling' then
  record.st, record.nonce = 'c', ''
  write_shard(id, shard, record)
  settle(job, shard, record.chars)
  job.canc = redis.call('HINCRBY', where, 'canc', record.ndocs)
  redis.call('HINCRBY', where, 'inq', -1)
  if int(job.run) == 0 then close(job) end
  reply = {'cancelled'}
else
  if suspect and record.mode == 1 then record.solo = record.solo + (only and 1 or 0)
  elseif suspect then record.mode, record.at, record.solo = 1, 0, 0 end
  reply = {suspect and 'suspect' or 'clean', tostring(shard), tostring(publish_one(job, shard, record)), job.queue}
end
changed(id)
return reply
