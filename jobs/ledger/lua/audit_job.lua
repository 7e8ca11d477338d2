#!lua flags=allow-oom
-- audit_job(job): recomputes an open job's counts and its entries in open:<model> from its shard records; returns how
-- many values were repaired.
local job = read_job(ARGV[1])
if not job or terminal(job) then return 0 end
local flat = redis.call('HGETALL', key('sh:' .. job.id))
local sum = {run = 0, ok = 0, failed = 0, canc = 0, exp = 0, inq = 0, left = 0}
local open, missing = {}, {}
for i = 1, #flat, 2 do
  local r = unpack_shard(flat[i + 1])
  if r.st == 'r' then sum.run = sum.run + r.ndocs
  elseif r.st == 'd' then sum.ok, sum.failed = sum.ok + r.ok, sum.failed + r.failed
  elseif r.st == 'c' then sum.canc = sum.canc + r.ndocs
  elseif r.st == 'x' then sum.exp = sum.exp + r.ndocs end
  if r.st == 'r' or r.st == 'p' or r.st == 'f' then sum.inq = sum.inq + 1 end
  if r.st ~= 'd' and r.st ~= 'c' and r.st ~= 'x' then
    sum.left = sum.left + r.chars
    open[#open + 1] = {flat[i], r}
  end
end
local mended, fixed = 0, {}
for name, value in pairs(sum) do
  if int(job[name]) ~= value then
    mended = mended + 1
    fixed[#fixed + 1] = name
    fixed[#fixed + 1] = value
  end
end
for _, item in ipairs(open) do
  local name, r = member(job.id, item[1]), item[2]
  if not redis.call('ZSCORE', key('open:' .. job.slug), name) then
    missing[#missing + 1] = r.st == 'r' and r.until_ or int(job.deadline) + SLACK
    missing[#missing + 1] = name
  end
  if r.st == 'p' and not redis.call('ZSCORE', key('pub:' .. job.queue), name) then
    redis.call('ZADD', key('pub:' .. job.queue), r.seq, name)
    mended = mended + 1
  end
end
bulk('HSET', key('job:' .. job.id), fixed)
bulk('ZADD', key('open:' .. job.slug), missing)
mended = mended + #missing / 2
for name, value in pairs(sum) do job[name] = value end
if mended > 0 then
  redis.call('HINCRBY', key('sys'), 'repairs', mended)
  changed(job.id)
end
if sum.ok + sum.failed + sum.canc + sum.exp == int(job.total) then
  close(job)
  changed(job.id)
elseif job.state ~= 'cancelling' and int(job.next) < int(job.shards)
  and not redis.call('ZSCORE', waiting_jobs(job.queue, job.tenant), job.id) then
  enter_turn(job, 0) -- a job from an older gateway
end
return mended
