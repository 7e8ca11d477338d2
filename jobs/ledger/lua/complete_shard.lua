#!lua flags=allow-oom
-- complete_shard(job, shard, nonce, result, leftover, ok, failed, usage, errors, keep_ms, (question, at)...): in one
-- atomic step, stores the results, updates the counts, deletes the payload, publishes the next shards, and ends the
-- job if this was its last shard. For keep_ms, the result cache finds by each question the result `at` of this shard.
local id, shard, nonce, result, leftover = unpack(ARGV, 1, 5)
local ok, failed, usage, errors = int(ARGV[6]), int(ARGV[7]), cjson.decode(ARGV[8]), cjson.decode(ARGV[9])

local job = read_job(id)
local record = job and read_shard(id, shard)
if record and record.st == 'd' and record.done_nonce == nonce then return {'already'} end
if not record or terminal(job) or record.st ~= 'r' or record.nonce ~= nonce or ok + failed ~= record.ndocs then
  return {'stale'}
end

local had = redis.call('HSTRLEN', key('in:' .. id), shard)
local grown = #result + #leftover - had -- change of the bytes that the job stores
if leftover == '' then redis.call('HDEL', key('in:' .. id), shard)
else redis.call('HSET', key('in:' .. id), shard, leftover) end
redis.call('HSET', key('out:' .. id), shard, result)
if record.mode == 1 then
  for i = 0, record.at do
    grown = grown - redis.call('HSTRLEN', key('part:' .. id), shard .. ':' .. i)
    redis.call('HDEL', key('part:' .. id), shard .. ':' .. i)
  end
end
record.st, record.done_nonce, record.nonce, record.ok, record.failed = 'd', nonce, '', ok, failed
write_shard(id, shard, record)
redis.call('SREM', key('run:' .. record.worker), member(id, shard))
settle(job, shard, record.chars)
local where = key('job:' .. id)
job.run, job.ok, job.failed = int(job.run) - record.ndocs, int(job.ok) + ok, int(job.failed) + failed
job.inq, job.texts = int(job.inq) - 1, math.max(0, int(job.texts) + #leftover - had)
redis.call('HSET', where, 'run', job.run, 'ok', job.ok, 'failed', job.failed, 'inq', job.inq, 'texts', job.texts)
for name, value in pairs(usage) do
  if value > 0 then redis.call('HINCRBY', where, 'usage_' .. name, value) end
end
for code, count in pairs(errors) do
  job['err:' .. code] = redis.call('HINCRBY', where, 'err:' .. code, count)
end

if #ARGV > 10 and redis.call('HGET', key('sys'), 'tight') ~= '1' then
  local asked = {}
  for i = 11, #ARGV, 2 do -- pcall: an error here must not stop the shard from completing
    redis.pcall('SET', key('ans:' .. ARGV[i]), member(id, shard) .. ':' .. ARGV[i + 1], 'PX', ARGV[10])
    asked[#asked + 1] = ARGV[i]
    grown = grown + 2 * #ARGV[i] + QUESTION_BYTES
  end
  bulk('SADD', key('asked:' .. id), asked) -- deleted with the job
end
keep(job.tenant, id, grown)

-- The model's drain rate in characters per second: a moving average over spans of at least five seconds.
local mkey = key('model:' .. job.slug)
local m = redis.call('HMGET', mkey, 'rate_at', 'rate_chars', 'drain_rate')
local span = (NOW - int(m[1])) / 1000
if not m[1] or span > 60 then redis.call('HSET', mkey, 'rate_at', NOW, 'rate_chars', 0)
elseif span < 5 then redis.call('HINCRBY', mkey, 'rate_chars', record.chars)
else
  local rate, old = (int(m[2]) + record.chars) / span, tonumber(m[3] or '0') or 0
  if old > 0 then rate = 0.5 * old + 0.5 * rate end
  redis.call('HSET', mkey, 'drain_rate', string.format('%.3f', rate), 'rate_at', NOW, 'rate_chars', 0)
end

local reply = {'stored', 'open'}
if int(job.ok) + int(job.failed) + int(job.canc) + int(job.exp) == int(job.total) then
  close(job)
  reply[2] = job.state
elseif int(job.next) < int(job.shards) and job.state ~= 'cancelling' then
  redis.call('ZADD', waiting_jobs(job.queue, job.tenant), 'NX', 0, id) -- a job from an older gateway
end
for _, value in ipairs(publish_next(job.queue, job.tenant, job.slug)) do reply[#reply + 1] = value end

-- Returns the message about the job's end for the process that waits: the job's id. If this was the job's only shard
-- and its results are small, two more parts follow: the reply of read_page as JSON, and the blobs that JSON cannot
-- hold. A waiter's name ends in the number of bytes that it accepts (`name:n`).
local function told(_, waiter)
  local ended = read_job(id)
  local opts, meta = ended.opts, ended.meta or ''
  local sizes = {#result, #opts, #meta}
  if int(ended.shards) ~= 1 or sizes[1] + sizes[2] + sizes[3] > int(string.match(waiter, ':(%d+)$')) then return id end
  ended.opts, ended.meta, ended.now = nil, nil, NOW
  local page = cjson.encode({ended, {shard, record.st, record.attempts}, sizes})
  return table.concat({id, '\n', page, '\n', result, opts, meta})
end

changed(id, told)
return reply
