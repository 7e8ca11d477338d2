#!lua flags=no-writes
-- read_page(job, shard, max_bytes): returns the finished shards from `shard` on, up to the first unfinished one or
-- about max_bytes; also the job at the same moment. Cancelled and expired shards come with their payload.
local ROW = 128 -- cost of reading and sending even the smallest shard; limits their number
local id, first, most = ARGV[1], int(ARGV[2]), int(ARGV[3])
local job = read_job(id)
if not job then
  local tenant = redis.call('GET', key('gone:' .. id))
  return tenant and {'gone', tenant} or {'absent'}
end
local rows, bytes = {}, 0
for shard = first, int(job.shards) - 1 do
  local record = read_shard(id, shard)
  local blob
  if record.st == 'd' then blob = redis.call('HGET', key('out:' .. id), shard)
  elseif record.st == 'c' or record.st == 'x' then blob = redis.call('HGET', key('in:' .. id), shard)
  else break end
  rows[#rows + 1] = {shard, record.st, record.attempts, blob or ''}
  bytes = bytes + #(blob or '') + ROW
  if bytes >= most then break end
end
return {'page', describe(job), rows, int(job.shards)}
