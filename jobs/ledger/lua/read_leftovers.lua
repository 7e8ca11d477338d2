#!lua flags=no-writes
-- read_leftovers(job, shard, max_bytes): returns the payloads of documents that did not succeed, from `shard` on, up
-- to about max_bytes or SCAN shards; also the job at the same moment, and whether its texts were deleted.
local SCAN = 1000
local id, first, most = ARGV[1], int(ARGV[2]), int(ARGV[3])
local job = read_job(id)
if not job then
  local tenant = redis.call('GET', key('gone:' .. id))
  return tenant and {'gone', tenant} or {'absent'}
end
local rows, bytes, next_ = {}, 0, first
while next_ < int(job.shards) and next_ < first + SCAN and bytes < most do
  local record = read_shard(id, next_)
  if record and (record.st == 'c' or record.st == 'x' or record.st == 'd' and record.failed > 0) then
    local blob = redis.call('HGET', key('in:' .. id), next_)
    if blob then
      rows[#rows + 1] = {next_, blob}
      bytes = bytes + #blob
    end
  end
  next_ = next_ + 1
end
return {'page', describe(job), rows, next_ < int(job.shards) and next_ or -1, job.hook or '',
  job.texts_gone and 1 or 0}
