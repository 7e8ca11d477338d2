#!lua flags=allow-oom
-- renew_leases(lease_ms, job, shard, nonce, ...): renews all leases of a worker in one call. Returns for each: ok |
-- stop (the job is being cancelled: drop the documents that have not started) | lost (the lease ended).
local lease, answers, renewed = int(ARGV[1]), {}, {}
for i = 2, #ARGV, 3 do
  local id, shard, nonce = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local job, record = read_job(id), read_shard(id, shard)
  if not job or not record or terminal(job) or record.st ~= 'r' or record.nonce ~= nonce then
    answers[#answers + 1] = 'lost'
  else
    answers[#answers + 1] = job.state == 'cancelling' and 'stop' or 'ok'
    record.until_ = NOW + lease
    renewed[#renewed + 1] = {job, shard, record}
  end
end
for _, item in ipairs(renewed) do
  local job, shard, record = unpack(item)
  write_shard(job.id, shard, record)
  redis.call('ZADD', key('open:' .. job.slug), record.until_, member(job.id, shard))
end
return answers
