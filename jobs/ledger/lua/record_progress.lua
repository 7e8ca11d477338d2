#!lua flags=allow-oom
-- record_progress(job, shard, nonce, at, result): for a shard that runs alone, document by document: the document
-- `at` begins now. `result`, if any, is the outcome of the previous document, stored so that a crash costs the work
-- of one document only.
local id, shard, nonce, at, result = ARGV[1], ARGV[2], ARGV[3], int(ARGV[4]), ARGV[5]
local job, record = read_job(id), read_shard(id, shard)
if not job or not record or terminal(job) or record.st ~= 'r' or record.nonce ~= nonce or record.mode ~= 1 then
  return 'stale'
end
if job.state == 'cancelling' then return 'stop' end
if at ~= record.at then record.solo = 0 end
record.at = at
if result ~= '' then
  local place = shard .. ':' .. (at - 1)
  keep(job.tenant, id, #result - redis.call('HSTRLEN', key('part:' .. id), place))
  redis.call('HSET', key('part:' .. id), place, result)
end
write_shard(id, shard, record)
return 'ok'
