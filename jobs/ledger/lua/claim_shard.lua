#!lua flags=allow-oom
-- claim_shard(job, shard, seq, nonce, worker, max_ver, queue, lease_ms, revision, mark_ttl_ms, threshold): claims the
-- shard for this worker, or returns why the message is to be dropped. In every case `head` moves first: it tells
-- upkeep how far the queue was read. With `mark_ttl_ms` above 0, a shard that may run next to others is put on the
-- worker's list of shards at risk in the same step.
local id, shard, seq, nonce, worker, max_ver, queue, lease, revision, mark_ttl, threshold = unpack(ARGV)
local q = key('q:' .. queue)
local have = redis.call('HMGET', q, 'seq', 'head')
local job = read_job(id)
local record = job and read_shard(id, shard)
redis.call('HSET', q, 'head', math.max(int(have[2]), math.min(int(seq), int(have[1]))))
if not record or terminal(job) then return {'gone'} end
-- All shards of a job use the default threshold of the worker that began the job; older workers used 0.5.
if job.threshold then threshold = job.threshold elseif job.rev then threshold = '0.5' end
if record.st == 'r' and record.nonce == nonce then
  record.until_ = NOW + int(lease)
elseif record.st == 'd' then return {'done'}
elseif record.st == 'r' then return {'leased'}
elseif job.state == 'cancelling' or record.st ~= 'p' and record.st ~= 'f' then return {'gone'}
elseif int(job.ver) > int(max_ver) then
  record.st = 'f'
  write_shard(id, shard, record)
  redis.call('ZREM', key('pub:' .. queue), member(id, shard))
  redis.call('ZADD', key('open:' .. job.slug), NOW + 30000, member(id, shard))
  return {'newer'}
else
  record.st, record.nonce, record.worker, record.until_ = 'r', nonce, worker, NOW + int(lease)
  record.attempts = record.attempts + 1
  redis.call('HINCRBY', key('job:' .. id), 'run', record.ndocs)
  redis.call('ZREM', key('pub:' .. queue), member(id, shard))
  redis.call('ZREM', key('queued:' .. queue), id)
  redis.call('HSETNX', key('job:' .. id), 'started', NOW)
  if not job.rev then redis.call('HSET', key('job:' .. id), 'rev', revision, 'threshold', threshold)
  elseif job.rev ~= revision then redis.call('HSET', key('job:' .. id), 'rev2', revision) end
  if job.state == 'queued' then redis.call('HSET', key('job:' .. id), 'state', 'running') end
  changed(id)
end
write_shard(id, shard, record)
redis.call('ZADD', key('open:' .. job.slug), record.until_, member(id, shard))
if int(mark_ttl) > 0 and record.mode == 0 then
  redis.call('SADD', key('run:' .. worker), member(id, shard))
  redis.call('PEXPIRE', key('run:' .. worker), mark_ttl)
end
local reply = {'run', redis.call('HGET', key('in:' .. id), shard), job.opts, record.attempts, record.mode, record.at,
  record.solo, job.tenant, job.trace or '', int(job.started) > 0 and int(job.started) or NOW, int(job.created), threshold}
for i = 0, record.at - 1 do
  reply[#reply + 1] = redis.call('HGET', key('part:' .. id), shard .. ':' .. i) or ''
end
return reply
