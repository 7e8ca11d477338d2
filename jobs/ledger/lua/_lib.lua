-- Shared by every script in this folder: key names, the shard record, and the steps that several transitions share. A
-- script reads and validates everything before its first write, because Lua has no rollback.

local function key(name) return '{gleaner}:' .. name end

local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000) -- milliseconds, constant within a script
local SLACK = 60000 -- a waiting shard is checked this long after its job's deadline
local TOMBSTONE = 7 * 24 * 3600
local CHUNK = 1000 -- `unpack` fails at about 8,000 items

local function int(value) return tonumber(value) or 0 end
local function member(id, shard) return id .. ':' .. shard end

-- Calls redis.call(command, where, items...) in chunks; returns the sum of the server's replies.
local function bulk(command, where, items)
  local sum = 0
  for first = 1, #items, CHUNK do
    sum = sum + int(redis.call(command, where, unpack(items, first, math.min(first + CHUNK - 1, #items))))
  end
  return sum
end

-- Returns the bytes that the server uses, and their maximum; 0 means no limit.
local function memory()
  local info = redis.call('INFO', 'memory')
  return int(string.match(info, 'used_memory:(%d+)')), int(string.match(info, 'maxmemory:(%d+)'))
end

local function fields(where)
  local flat, record = redis.call('HGETALL', where), {}
  for i = 1, #flat, 2 do record[flat[i]] = flat[i + 1] end
  return record
end

-- Storage of a tenant: `kept:<tenant>` holds the bytes of each record, `stored` in `tenant:<tenant>` their sum. A
-- script that stores or deletes data updates both in the same step. A record is named by a job's id (also of a
-- stage), d:<delivery>, e:<endpoint>, l:<label set>, v:<job> (its event), or u:<hour> (all stored responses of
-- Idempotency-Keys that expire within that hour: they are many and small). A record counts the lengths of its data and
-- the server's overhead, which the constants below estimate from measurements.
local JOB_BYTES, SHARD_BYTES, ID_BYTES = 2048, 256, 64
local DELIVERY_BYTES, ENDPOINT_BYTES, ANSWER_BYTES, QUESTION_BYTES, LABEL_SET_BYTES = 1024, 512, 256, 128, 512
local HOUR = 3600 * 1000
local ANSWER_TTL = 24 * HOUR

-- Adds bytes to one of the tenant's records, or subtracts them; deletes a record that has none left.
local function keep(tenant, record, bytes)
  if bytes == 0 then return end
  local rest = redis.call('HINCRBY', key('kept:' .. tenant), record, bytes)
  if rest <= 0 then
    redis.call('HDEL', key('kept:' .. tenant), record)
    bytes = bytes - rest -- a record cannot go below 0: an older version did not count all of its bytes
  end
  local sum = redis.call('HINCRBY', key('tenant:' .. tenant), 'stored', bytes)
  if sum < 0 then redis.call('HSET', key('tenant:' .. tenant), 'stored', 0) end
  if sum == bytes then redis.call('SADD', key('tenants'), tenant) end
end

-- Deletes a record and subtracts its bytes from the tenant's storage.
local function forget(tenant, record)
  local bytes = int(redis.call('HGET', key('kept:' .. tenant), record))
  if bytes ~= 0 then keep(tenant, record, -bytes) end
end

-- Returns the name of the record for a response that expires at this time.
local function answer_record(lapses) return 'u:' .. math.floor(lapses / HOUR) end

-- Returns the job's hash as a table, or nil.
local function read_job(id)
  local job = fields(key('job:' .. id))
  if not job.state then return nil end
  job.id = id
  return job
end

local function terminal(job)
  return job.state ~= 'queued' and job.state ~= 'running' and job.state ~= 'cancelling'
end

-- A shard's record: st|nonce|until|attempts|mode|at|solo|seq|ndocs|done_nonce|worker|ok|failed|chars
-- st: w waiting, p published, r running, d done, f deferred, c cancelled, x expired. mode: 0 next to others, 1 alone.
local FIELDS = {'st', 'nonce', 'until_', 'attempts', 'mode', 'at', 'solo', 'seq', 'ndocs', 'done_nonce', 'worker',
  'ok', 'failed', 'chars'}

local function unpack_shard(text)
  local record, i = {}, 0
  for part in string.gmatch(text .. '|', '([^|]*)|') do
    i = i + 1
    record[FIELDS[i]] = part
  end
  for _, name in ipairs({'until_', 'attempts', 'mode', 'at', 'solo', 'seq', 'ndocs', 'ok', 'failed', 'chars'}) do
    record[name] = int(record[name])
  end
  return record
end

local function pack_shard(r)
  return string.format('%s|%s|%.0f|%d|%d|%d|%d|%.0f|%d|%s|%s|%d|%d|%d', r.st, r.nonce, r.until_, r.attempts, r.mode,
    r.at, r.solo, r.seq, r.ndocs, r.done_nonce, r.worker, r.ok, r.failed, r.chars)
end

local function read_shard(id, shard)
  local text = redis.call('HGET', key('sh:' .. id), shard)
  return text and unpack_shard(text)
end

local function write_shard(id, shard, record)
  redis.call('HSET', key('sh:' .. id), shard, pack_shard(record))
end

-- Increments the version and publishes the state, so that a client waiting for the end need not read the job earlier.
-- If the process that created the job waits for it, the end is also published on that process's channel (`waiter`):
-- as the job's id, or as the message that `told` returns.
local function changed(id, told)
  redis.call('HINCRBY', key('job:' .. id), 'v', 1)
  local found = redis.call('HMGET', key('job:' .. id), 'state', 'waiter')
  local state, waiter = found[1] or '', found[2] or ''
  redis.call('PUBLISH', key('ch:' .. id), state)
  if waiter ~= '' and state ~= 'queued' and state ~= 'running' and state ~= 'cancelling' then
    redis.call('PUBLISH', key('ch:' .. waiter), told and told(id, waiter) or id)
  end
end

-- Key of a tenant's shards that are published or running in a queue, by time of publication.
local function in_flight(queue, tenant) return key('flight:' .. queue .. ':' .. tenant) end

-- Key of a tenant's jobs that have shards to publish, by the seq of their latest shard: the job that was served
-- longest ago comes first.
local function waiting_jobs(queue, tenant) return key('wait:' .. queue .. ':' .. tenant) end

-- Marks one shard as published under a new seq; the caller pushes the message.
local function publish_one(job, shard, record)
  local seq = redis.call('HINCRBY', key('q:' .. job.queue), 'seq', 1)
  record.st, record.seq, record.nonce, record.worker, record.until_ = 'p', seq, '', '', 0
  write_shard(job.id, shard, record)
  redis.call('ZADD', key('pub:' .. job.queue), seq, member(job.id, shard))
  redis.call('ZADD', in_flight(job.queue, job.tenant), NOW, member(job.id, shard))
  redis.call('ZADD', key('open:' .. job.slug), int(job.deadline) + SLACK, member(job.id, shard))
  return seq
end

-- Returns how many of a tenant's shards may be in flight at once: the slots of all live workers, divided among the
-- tenants that have more to publish than their share. A tenant that needs less than its share takes nothing from the
-- others. A tenant that comes later finds a free slot, because workers have more slots than they announce
-- (`spare_slots` of worker/app.py).
local function share(slug, queue, slots)
  local live = redis.call('ZCOUNT', key('workers:' .. slug), NOW, '+inf')
  local hungry = redis.call('ZCARD', key('hungry:' .. queue))
  return math.min(256, math.max(2, math.ceil(live * slots / math.max(1, hungry))))
end

local function enter_turn(job, seq)
  redis.call('ZADD', waiting_jobs(job.queue, job.tenant), seq, job.id)
  redis.call('ZADD', key('hungry:' .. job.queue), 'NX', NOW, job.tenant)
end

local function leave_turn(queue, tenant, id)
  local where = waiting_jobs(queue, tenant)
  redis.call('ZREM', where, id)
  if redis.call('EXISTS', where) == 0 then redis.call('ZREM', key('hungry:' .. queue), tenant) end
end

-- Publishes one shard of a job that waits for its turn; returns shard and seq, or nil if none is left.
local function publish_in_turn(job)
  local next_, shards = int(job.next), int(job.shards)
  while next_ < shards do
    local record = read_shard(job.id, next_)
    next_ = next_ + 1
    if record and record.st == 'w' then
      local seq = publish_one(job, next_ - 1, record)
      redis.call('HINCRBY', key('job:' .. job.id), 'inq', 1)
      redis.call('HSET', key('job:' .. job.id), 'next', next_)
      if next_ < shards then enter_turn(job, seq)
      else leave_turn(job.queue, job.tenant, job.id) end
      return next_ - 1, seq
    end
  end
  redis.call('HSET', key('job:' .. job.id), 'next', next_)
  leave_turn(job.queue, job.tenant, job.id)
end

-- Publishes as many shards as fit into a tenant's share, its jobs in turn; returns {job, shard, seq, ...}.
local function publish_next(queue, tenant, slug)
  local out, where = {}, waiting_jobs(queue, tenant)
  if redis.call('EXISTS', where) == 0 then return out end
  local room = share(slug, queue, int(redis.call('HGET', key('model:' .. slug), 'slots')))
    - redis.call('ZCARD', in_flight(queue, tenant))
  for _ = 1, room + 100 do -- and up to 100 entries of jobs that have ended
    local id = room > 0 and redis.call('ZRANGE', where, 0, 0)[1]
    if not id then break end
    local have = redis.call('HMGET', key('job:' .. id), 'state', 'next', 'shards', 'deadline')
    local state = have[1]
    if state ~= 'queued' and state ~= 'running' then leave_turn(queue, tenant, id)
    else
      local shard, seq = publish_in_turn({id = id, queue = queue, tenant = tenant, slug = slug, next = have[2],
        shards = have[3], deadline = have[4]})
      if shard then
        out[#out + 1] = id
        out[#out + 1] = tostring(shard)
        out[#out + 1] = tostring(seq)
        room = room - 1
      end
    end
  end
  return out
end

-- Removes a shard from the indexes, and its characters from the sums.
local function settle(job, shard, chars)
  redis.call('ZREM', key('open:' .. job.slug), member(job.id, shard))
  redis.call('ZREM', key('pub:' .. job.queue), member(job.id, shard))
  redis.call('ZREM', in_flight(job.queue, job.tenant), member(job.id, shard))
  redis.call('HINCRBY', key('model:' .. job.slug), 'open_chars', -chars)
  redis.call('HINCRBY', key('tenant:' .. job.tenant), 'open_chars', -chars)
  redis.call('HINCRBY', key('sys'), 'open_chars', -chars)
  redis.call('HINCRBY', key('job:' .. job.id), 'left', -chars)
end

local function error_counts(job)
  local out = {}
  for name, value in pairs(job) do
    local code = string.match(name, '^err:(.+)$')
    if code then out[#out + 1] = {code = code, count = int(value)} end
  end
  table.sort(out, function(a, b) return a.code < b.code end)
  return out
end

local DELIVERY_TTL = 14 * 24 * HOUR -- longer than the longest schedule; an ended delivery is kept for 7 days
local DELIVERIES = 5000 -- kept per endpoint; beyond that, ended ones are removed early

-- Schedules a delivery's next check, in its endpoint's list and, if it is earlier, in the list of endpoints.
local function look_at(ep, id, at)
  redis.call('ZADD', key('due:' .. ep), at, id)
  redis.call('PEXPIRE', key('due:' .. ep), DELIVERY_TTL)
  redis.call('ZADD', key('eps'), 'LT', at, ep)
end

-- Updates the average duration of an attempt (ms), by receiver or by tenant ('@tenant'). The latest attempt counts
-- for a fifth. An average below 500 ms is not stored; any other expires ten minutes after the last attempt.
local function note_pace(name, ms)
  local known = redis.call('GET', key('pace:' .. name))
  local average = math.floor(0.8 * int(known) + 0.2 * ms)
  if average >= 500 then redis.call('SET', key('pace:' .. name), average, 'PX', 600000)
  elseif known then redis.call('UNLINK', key('pace:' .. name)) end
end

local function is_slow(name) return int(redis.call('GET', key('pace:' .. name))) > 5000 end

-- Returns how many attempts may run at a receiver at once: one while it fails, two while it is slow.
local function lane_limit(lane, cap)
  if redis.call('EXISTS', key('bad:' .. lane)) == 1 then return 1 end
  return is_slow(lane) and math.min(2, cap) or cap
end

-- The last delivery of a message was processed: frees the message's place at its receiver and its tenant.
local function leave_hand(lane, tenant, id)
  for _, pool in ipairs({lane, '@' .. tenant, '@', '~'}) do redis.call('ZREM', key('hand:' .. pool), id) end
end

local function delivery_id(job, ep, event) return 'dlv_' .. redis.sha1hex(job .. ':' .. ep .. ':' .. event) end

-- Removes a delivery with its attempts, and its event with the last delivery of it. The endpoint's lists still name
-- it.
local function unlink_delivery(id)
  local d = redis.call('HMGET', key('dlv:' .. id), 'tenant', 'job', 'state')
  redis.call('UNLINK', key('dlv:' .. id), key('att:' .. id))
  if not d[1] then return end
  if d[3] == 'due' or d[3] == 'flying' then leave_hand('', d[1], id) end
  forget(d[1], 'd:' .. id)
  local event = key('event:' .. d[2])
  if redis.call('EXISTS', event) == 1 and redis.call('HINCRBY', event, 'refs', -1) <= 0 then
    redis.call('UNLINK', event)
    forget(d[1], 'v:' .. d[2])
  end
end

-- Stores the outcome of an attempt; only the latest 50 are kept.
local function add_attempt(tenant, id, attempt)
  local list, grown = key('att:' .. id), #attempt
  for _ = 51, redis.call('RPUSH', list, attempt) do grown = grown - #redis.call('LPOP', list) end
  keep(tenant, 'd:' .. id, grown)
end

-- Removes the endpoint's `most` oldest deliveries; returns true if there are more.
local function unlink_deliveries(ep, most)
  local list = key('dlvs:' .. ep)
  for _, id in ipairs(redis.call('ZRANGE', list, 0, most - 1)) do unlink_delivery(id) end
  redis.call('ZREMRANGEBYRANK', list, 0, most - 1)
  return redis.call('EXISTS', list) == 1
end

-- Removes an endpoint and its deliveries; those that are too many for one step are left to upkeep.
local function unlink_endpoint(ep, tenant)
  redis.call('UNLINK', key('ep:' .. ep), key('due:' .. ep))
  redis.call('ZREM', key('eps'), ep)
  redis.call('SREM', key('eps_off'), ep)
  redis.call('ZREM', key('epl:' .. tenant), ep)
  redis.call('SREM', key('eps:' .. tenant), ep)
  redis.call('ZREM', key('epi:' .. tenant), ep)
  forget(tenant, 'e:' .. ep)
  if unlink_deliveries(ep, 500) then redis.call('SADD', key('wipes'), 'e:' .. ep) end
end

-- If an endpoint has more than DELIVERIES, removes its two oldest if they have ended.
local function trim_deliveries(ep)
  local list = key('dlvs:' .. ep)
  if redis.call('ZCARD', list) <= DELIVERIES then return end
  for _, id in ipairs(redis.call('ZRANGE', list, 0, 1)) do
    local state = redis.call('HGET', key('dlv:' .. id), 'state')
    if state ~= 'due' and state ~= 'flying' then
      unlink_delivery(id)
      redis.call('ZREM', list, id)
    end
  end
end

-- Writes one delivery per endpoint that wants the event, unless it exists: a job that was rolled back and ran again
-- then sends the same webhook-id. The event is written once for all deliveries and does not change later.
local function outbox(job, event)
  local wanted = redis.call('SMEMBERS', key('eps:' .. job.tenant))
  if job.hook and job.hook ~= '' then wanted[#wanted + 1] = job.hook end
  local seen, written = {}, {}
  for _, ep in ipairs(wanted) do
    local endpoint = redis.call('HMGET', key('ep:' .. ep), 'state', 'events', 'kind')
    local events = endpoint[2] or ''
    local wants = events == '' or string.find(',' .. events .. ',', ',' .. event .. ',', 1, true)
    local id = delivery_id(job.id, ep, event)
    if endpoint[1] == 'active' and wants and not seen[ep]
      and redis.call('EXISTS', key('dlv:' .. id)) == 0 then
      redis.call('HSET', key('dlv:' .. id), 'ep', ep, 'event', event, 'tenant', job.tenant, 'job', job.id, 'n', 0,
        'next', NOW, 'state', 'due', 'created', NOW, 'trace', job.trace or '')
      redis.call('PEXPIRE', key('dlv:' .. id), DELIVERY_TTL)
      look_at(ep, id, NOW)
      redis.call('ZADD', key('dlvs:' .. ep), NOW, id)
      redis.call('PEXPIRE', key('dlvs:' .. ep), DELIVERY_TTL)
      if endpoint[3] == 'inline' then redis.call('PEXPIRE', key('ep:' .. ep), DELIVERY_TTL) end
      written[#written + 1] = 'd:' .. id
    end
    seen[ep] = true
  end
  if #written == 0 then return end
  local payload = cjson.encode({
    event = event, job_id = job.id, status = job.state, finished = NOW, results_expire_at = NOW + int(job.ttl),
    total = int(job.total), succeeded = int(job.ok), failed = int(job.failed), cancelled = int(job.canc),
    expired = int(job.exp), errors = error_counts(job)})
  local where = key('event:' .. job.id)
  local new = redis.call('HSETNX', where, event, payload) == 1
  redis.call('HINCRBY', where, 'refs', #written)
  redis.call('PEXPIRE', where, DELIVERY_TTL)
  if new then keep(job.tenant, 'v:' .. job.id, #payload) end
  for _, record in ipairs(written) do keep(job.tenant, record, DELIVERY_BYTES) end
end

-- Deletes the texts that an ended job still stores, and subtracts their bytes from its tenant's storage. The document
-- ids of a shard that never ran stay, because the results name them: `ids:`, then JSON [first index, documents,
-- {index, id, ...}].
local function drop_texts(job)
  local where, ids, shards = key('in:' .. job.id), {}, {}
  local flat = redis.call('HGETALL', key('ids:' .. job.id))
  for i = 1, #flat, 2 do ids[int(flat[i + 1])] = flat[i] end
  flat = redis.call('HGETALL', key('sh:' .. job.id))
  for i = 1, #flat, 2 do shards[int(flat[i])] = unpack_shard(flat[i + 1]) end
  local first, left, names = 0, 0, {}
  for shard = 0, int(job.shards) - 1 do
    local record = shards[shard] or {ndocs = 0} -- the record may have expired already
    if record.st == 'c' or record.st == 'x' then
      local owned = {}
      for index = first, first + record.ndocs - 1 do
        if ids[index] then
          owned[#owned + 1] = index
          owned[#owned + 1] = ids[index]
        end
      end
      names[#names + 1] = shard
      names[#names + 1] = 'ids:' .. cjson.encode({first, record.ndocs, owned})
      left = left + #names[#names]
    end
    first = first + record.ndocs
  end
  redis.call('UNLINK', where)
  bulk('HSET', where, names)
  redis.call('PEXPIREAT', where, int(job.purge_at) + HOUR)
  keep(job.tenant, job.id, left - int(job.texts))
  redis.call('HSET', key('job:' .. job.id), 'texts', left, 'texts_gone', 1)
  redis.call('ZREM', key('texts'), job.id)
end

-- Ends the job, once: state, times, sums, purge, outbox. `job` must hold the current counts.
local function close(job)
  local id, total = job.id, int(job.total)
  local state = 'partially_succeeded'
  if int(job.canc) > 0 then state = 'cancelled'
  elseif int(job.exp) > 0 then state = 'expired'
  elseif int(job.ok) == total then state = 'succeeded'
  elseif int(job.ok) == 0 then state = 'failed' end
  local purge_at = NOW + int(job.ttl)
  job.state = state
  redis.call('HSET', key('job:' .. id), 'state', state, 'finished', NOW, 'purge_at', purge_at, 'run', 0)
  redis.call('ZREM', key('deadlines'), id)
  redis.call('ZREM', key('queued:' .. job.queue), id)
  redis.call('ZREM', key('opened:' .. job.slug), id)
  redis.call('ZADD', key('purge'), purge_at, id)
  if state == 'cancelled' and int(job.text_ttl) > 0 then redis.call('ZADD', key('texts'), NOW + int(job.text_ttl), id) end
  for _, name in ipairs({'job:', 'sh:', 'in:', 'out:', 'ids:', 'part:', 'asked:'}) do
    redis.call('PEXPIREAT', key(name .. id), purge_at + HOUR) -- a fallback; upkeep purges on time
  end
  redis.call('HINCRBY', key('tenant:' .. job.tenant), 'open_jobs', -1)
  if job.by and job.by ~= '' and redis.call('HINCRBY', key('tenant:' .. job.tenant), 'jobs:' .. job.by, -1) <= 0 then
    redis.call('HDEL', key('tenant:' .. job.tenant), 'jobs:' .. job.by)
  end
  redis.call('HINCRBY', key('model:' .. job.slug), 'open_jobs', -1)
  redis.call('HINCRBY', key('q:' .. job.queue), 'jobs', -1)
  redis.call('HINCRBY', key('sys'), 'reserve', -int(job.reserve))
  outbox(job, 'job.' .. state)
end

-- Ends every shard for which `ends(record)` is true, with state `st`; returns the documents ended, and how many of
-- them were running.
local function end_shards(job, st, ends)
  local flat = redis.call('HGETALL', key('sh:' .. job.id))
  local documents, running, chars, gone, records, left_queue = 0, 0, 0, {}, {}, 0
  for i = 1, #flat, 2 do
    local record = unpack_shard(flat[i + 1])
    if ends(record) then
      documents = documents + record.ndocs
      chars = chars + record.chars
      if record.st == 'r' then running = running + record.ndocs end
      if record.st ~= 'w' then left_queue = left_queue + 1 end
      record.st, record.nonce = st, ''
      gone[#gone + 1] = member(job.id, flat[i])
      records[#records + 1] = flat[i]
      records[#records + 1] = pack_shard(record)
    end
  end
  bulk('HSET', key('sh:' .. job.id), records)
  bulk('ZREM', key('open:' .. job.slug), gone)
  bulk('ZREM', key('pub:' .. job.queue), gone)
  bulk('ZREM', in_flight(job.queue, job.tenant), gone)
  leave_turn(job.queue, job.tenant, job.id)
  redis.call('HINCRBY', key('model:' .. job.slug), 'open_chars', -chars)
  redis.call('HINCRBY', key('tenant:' .. job.tenant), 'open_chars', -chars)
  redis.call('HINCRBY', key('sys'), 'open_chars', -chars)
  job.inq = int(job.inq) - left_queue
  job.run = int(job.run) - running
  redis.call('HSET', key('job:' .. job.id), 'inq', job.inq, 'run', job.run, 'next', job.shards)
  redis.call('HINCRBY', key('job:' .. job.id), 'left', -chars)
  return documents, running
end

-- Returns what a reader needs of a job, as a flat list of names and values (see parsing.py). In a list of jobs,
-- `models` carries the values that jobs of the same queue share from one job to the next.
local function describe(job, models)
  local shared = models and models[job.queue]
  if not shared then
    local model = redis.call('HMGET', key('model:' .. job.slug), 'open_chars', 'drain_rate', 'reason')
    shared = {
      workers = redis.call('ZCOUNT', key('workers:' .. job.slug), NOW, '+inf'),
      jobs = int(redis.call('HGET', key('q:' .. job.queue), 'jobs')),
      chars = int(model[1]), rate = model[2] or '0', reason = model[3] or ''}
    if models then models[job.queue] = shared end
  end
  local flat = {
    'now', NOW,
    'position', (redis.call('ZRANK', key('queued:' .. job.queue), job.id) or -2) + 1,
    'workers', shared.workers,
    'queue_jobs', shared.jobs,
    'model_chars', shared.chars,
    'drain_rate', shared.rate,
    'model_reason', shared.reason}
  for name, value in pairs(job) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  return flat
end
