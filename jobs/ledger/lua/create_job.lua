#!lua
-- create_job(header, opts, meta, answer, sizes, ids, template, blob...): makes a job and its shards visible, or
-- returns a refusal. header: JSON object; sizes: JSON [[ndocs, cost], ...]; ids: JSON [doc id, index, ...] or '';
-- template: of the messages to be pushed here, with six places for job, shard and seq, or ''. Blobs are the shards'
-- payloads in order; none if they were staged.
local h = cjson.decode(ARGV[1])
local opts, meta, answer, sizes = ARGV[2], ARGV[3], ARGV[4], cjson.decode(ARGV[5])
local ids = ARGV[6] ~= '' and cjson.decode(ARGV[6]) or {}
local id, inline, shards = h.id, #ARGV - 7, #sizes
local job_key, in_key = key('job:' .. id), key('in:' .. id)

-- Pushes messages into the broker's database; returns false if the server refuses, and the caller then pushes them.
-- No later command may need the ledger's database, because switching back to it may be refused, too.
local function pushed(published)
  local database, back, list = unpack(h.push)
  local messages = {}
  for i = 1, #published, 2 do
    local named = {id, published[i], published[i + 1]}
    for place = 4, 18 do named[place] = named[place - 3] end
    messages[#messages + 1] = string.format(ARGV[7], unpack(named))
  end
  if redis.pcall('SELECT', database).err then return false end
  local answer = redis.pcall('LPUSH', list, unpack(messages))
  redis.pcall('SELECT', back)
  return type(answer) == 'number'
end

local function refuse(kind, retry_after, stored)
  return {kind, NOW, tostring(retry_after or 0), tostring(stored or '')}
end

if redis.call('EXISTS', job_key) == 1 then
  return {'exists', int(redis.call('HGET', job_key, 'created')), '0', ''}
end
local idem = h.idem ~= '' and key('idem:' .. h.tenant .. ':' .. h.idem)
if idem and redis.call('HGET', idem, 'nonce') ~= h.nonce then return refuse('idem_lost') end
if inline == 0 and redis.call('HLEN', in_key) ~= shards then return refuse('stage_lost') end
if h.retry_of ~= '' then
  local source = redis.call('HMGET', key('job:' .. h.retry_of), 'state', 'retried_by', 'tenant')
  if not source[1] or source[3] ~= h.tenant or source[2]
    or source[1] == 'queued' or source[1] == 'running' or source[1] == 'cancelling' then
    return refuse('retry_conflict')
  end
end

-- Capacity: of the tenant, the model, all models, and the server's memory. The values read here are used in the
-- writes below, because every command of a script costs time.
local by = h.by ~= '' and 'jobs:' .. h.by
local tenant = redis.call('HMGET', key('tenant:' .. h.tenant), 'open_jobs', 'open_chars', by or 'jobs:', 'stored')
local model = redis.call('HMGET', key('model:' .. h.slug), 'open_chars', 'drain_rate', 'open_jobs', 'slots')
local queue = redis.call('HMGET', key('q:' .. h.queue), 'jobs', 'seq')
local sys = redis.call('HMGET', key('sys'), 'open_chars', 'reserve', 'looked', 'used', 'most')
local rate = math.max(1, tonumber(model[2] or '0') or 0)
local function over(limit, have) return limit > 0 and have + h.cost > limit and have > 0 end
if h.limits.tenant_jobs > 0 and int(tenant[1]) >= h.limits.tenant_jobs
  or h.limits.key_jobs > 0 and int(tenant[3]) >= h.limits.key_jobs
  or over(h.limits.tenant_chars, int(tenant[2])) then
  return refuse('quota', math.max(1, int(tenant[2]) / rate / math.max(1, int(tenant[1]))))
end
-- `bytes`: what the job stores in addition to its stage; `texts`: bytes of all its texts, staged ones included. What
-- the job's end adds is not limited.
local stage = inline == 0 and redis.call('HMGET', key('stage:' .. id), 'texts', 'ids', 'tenant') or {}
local bytes, texts, lapses = JOB_BYTES + SHARD_BYTES * shards + #opts + #meta, int(stage[1]), NOW + ANSWER_TTL
for i = 1, inline do bytes, texts = bytes + #ARGV[7 + i], texts + #ARGV[7 + i] end
for i = 1, #ids, 2 do bytes = bytes + #ids[i] + ID_BYTES end
local staged_bytes = int(stage[1]) + int(stage[2])
if stage[3] ~= h.tenant then bytes, staged_bytes = bytes + staged_bytes, 0 end -- the stage was counted for no tenant
local answered = idem and #answer + ANSWER_BYTES or 0
local stored = int(tenant[4]) + bytes + answered
if int(h.limits.tenant_stored) > 0 and stored > h.limits.tenant_stored then return refuse('stored', 60, int(tenant[4])) end
if over(h.limits.model_chars, int(model[1])) then
  return refuse('overloaded', math.max(1, (int(model[1]) + h.cost - h.limits.model_chars) / rate))
end
if over(h.limits.all_chars, int(sys[1])) then
  return refuse('overloaded', math.max(1, (int(sys[1]) + h.cost - h.limits.all_chars) / rate))
end
local looked, used, most = int(sys[3]), int(sys[4]), int(sys[5])
if math.abs(NOW - looked) > 100 then -- INFO takes an eighth of the script's time; `reserve` covers jobs created since
  looked, used, most = NOW, memory()
end
local staged = inline == 0 and int(redis.call('HGET', key('staged'), id)) or 0
local reserve = h.bytes * 3
if most > 0 and used + int(sys[2]) - staged + reserve > 0.7 * most then return refuse('memory_full', 30) end

-- Only writes from here on.
local created = math.abs(NOW - h.created) < 60000 and h.created or NOW
local deadline = created + h.deadline_ms
local open, seq = int(queue[1]) + 1, int(queue[2])
local flight = in_flight(h.queue, h.tenant)
-- A job waits for its turn behind other jobs of its tenant; a tenant's first job starts at once.
local room = redis.call('EXISTS', waiting_jobs(h.queue, h.tenant)) == 0
  and share(h.slug, h.queue, int(model[4])) - redis.call('ZCARD', flight) or 0
local first = math.max(0, math.min(shards, room)) -- shards published now
redis.call('HSET', job_key, 'ver', h.ver, 'tenant', h.tenant, 'model', h.model, 'slug', h.slug, 'queue', h.queue,
  'priority', h.priority, 'state', 'queued', 'total', h.total, 'run', 0, 'ok', 0, 'failed', 0, 'canc', 0, 'exp', 0,
  'shards', shards, 'next', first, 'inq', first, 'created', created, 'deadline', deadline, 'ttl', h.ttl_ms, 'chars', h.chars,
  'left', h.cost, 'bytes', h.bytes, 'reserve', reserve, 'hook', h.hook, 'opts', opts, 'meta', meta, 'v', 1,
  'trace', h.trace, 'retry_of', h.retry_of, 'by', h.by, 'waiter', h.waiter, 'texts', texts, 'text_ttl', h.text_ttl_ms,
  'idem', h.idem, 'label_set', h.label_set)
local records, members, published, messages, flying = {}, {}, {}, {}, {}
for i, size in ipairs(sizes) do
  local shard, out = i - 1, i <= first
  records[#records + 1] = tostring(shard)
  records[#records + 1] = pack_shard({st = out and 'p' or 'w', nonce = '', until_ = 0, attempts = 0, mode = 0, at = 0,
    solo = 0, seq = out and seq + i or 0, ndocs = size[1], done_nonce = '', worker = '', ok = 0, failed = 0,
    chars = size[2]})
  members[#members + 1] = deadline + SLACK
  members[#members + 1] = member(id, shard)
  if out then
    published[#published + 1] = seq + i
    published[#published + 1] = member(id, shard)
    flying[#flying + 1] = NOW
    flying[#flying + 1] = member(id, shard)
    messages[#messages + 1] = tostring(shard)
    messages[#messages + 1] = tostring(seq + i)
  end
end
bulk('HSET', key('sh:' .. id), records)
bulk('HSET', key('ids:' .. id), ids) -- those of staged documents are already stored
for i = 1, inline do redis.call('HSET', in_key, i - 1, ARGV[7 + i]) end
if inline == 0 then
  redis.call('PERSIST', in_key)
  redis.call('PERSIST', key('ids:' .. id))
  redis.call('ZREM', key('staging'), id)
  redis.call('HDEL', key('staged'), id)
  redis.call('UNLINK', key('stage:' .. id))
end
bulk('ZADD', key('open:' .. h.slug), members)
bulk('ZADD', key('pub:' .. h.queue), published)
bulk('ZADD', flight, flying)
if first < shards then enter_turn({id = id, queue = h.queue, tenant = h.tenant}, 0) end
redis.call('ZADD', key('deadlines'), deadline, id)
redis.call('ZADD', key('jobs:' .. h.tenant), created, id)
redis.call('ZADD', key('queued:' .. h.queue), created, id)
redis.call('ZADD', key('opened:' .. h.slug), created, id)
redis.call('HSET', key('tenant:' .. h.tenant), 'open_jobs', int(tenant[1]) + 1, 'open_chars', int(tenant[2]) + h.cost,
  'stored', stored)
redis.call('HSET', key('kept:' .. h.tenant), id, bytes + staged_bytes)
if int(tenant[4]) == 0 then redis.call('SADD', key('tenants'), h.tenant) end
if by then redis.call('HSET', key('tenant:' .. h.tenant), by, int(tenant[3]) + 1) end
redis.call('HSET', key('model:' .. h.slug), 'open_jobs', int(model[3]) + 1, 'open_chars', int(model[1]) + h.cost)
redis.call('HSET', key('q:' .. h.queue), 'jobs', open, 'seq', seq + first)
if not queue[1] then -- the first job of this queue
  redis.call('SADD', key('queues'), h.queue)
  redis.call('SADD', key('slugs'), h.slug)
end
-- Jobs are refused above 70 % of the memory. Above 50 % the result cache stores nothing, which leaves the rest to
-- jobs.
redis.call('HSET', key('sys'), 'open_chars', int(sys[1]) + h.cost, 'reserve', int(sys[2]) - staged + reserve,
  'tight', most > 0 and used > 0.5 * most and 1 or 0, 'looked', looked, 'used', used, 'most', most)
if h.retry_of ~= '' then
  redis.call('HSET', key('job:' .. h.retry_of), 'retried_by', id)
  drop_texts(read_job(h.retry_of)) -- they belong to the new job now
  changed(h.retry_of)
end
if idem then
  redis.call('HSET', idem, 'state', 'done', 'answer', answer, 'job', id, 'lapses', lapses)
  if h.body_sha ~= '' then redis.call('HSET', idem, 'body_sha', h.body_sha) end -- of a stream, known only now
  redis.call('PEXPIRE', idem, ANSWER_TTL)
  redis.call('HINCRBY', key('kept:' .. h.tenant), answer_record(lapses), answered)
end
local reply = {'created', created, '0', ''}
if ARGV[7] ~= '' and (#messages == 0 or pushed(messages)) then return reply end
for _, value in ipairs(messages) do reply[#reply + 1] = value end
return reply
