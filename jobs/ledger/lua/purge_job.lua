#!lua flags=allow-oom
-- purge_job(job, erase): removes an ended job; a tombstone with its tenant stays for 7 days. Without `erase` (the
-- job's time is over) its deliveries continue and keep the metadata. With `erase` every trace is removed: the
-- response of its Idempotency-Key, its inline endpoint, past deliveries, and the response bodies of receivers. A
-- pending delivery keeps only what no user entered: the job's id, state and counts. If it goes to the inline
-- endpoint, it stays for at most an hour, and both are removed once it has ended.
local id, erase = ARGV[1], ARGV[2] == '1'
local job = read_job(id)
if not job then
  redis.call('ZREM', key('purge'), id)
  redis.call('ZREM', key('texts'), id)
  return redis.call('EXISTS', key('gone:' .. id)) == 1 and 'gone' or 'absent'
end
if not terminal(job) then return 'not_terminal' end
local tenant, event = job.tenant, key('event:' .. id)

local function erase_delivery(ep, delivery, state)
  if state == 'due' or state == 'flying' then
    redis.call('HDEL', key('dlv:' .. delivery), 'meta')
    redis.call('HSET', key('dlv:' .. delivery), 'erased', 1)
    redis.call('UNLINK', key('att:' .. delivery))
    forget(tenant, 'd:' .. delivery)
    keep(tenant, 'd:' .. delivery, DELIVERY_BYTES)
  else
    unlink_delivery(delivery)
    redis.call('ZREM', key('dlvs:' .. ep), delivery)
  end
end

-- The endpoints that may have been notified of the job's end.
local endpoints, told = redis.call('ZRANGE', key('epl:' .. tenant), 0, -1), false
local hook = job.hook or ''
if hook ~= '' and redis.call('HGET', key('ep:' .. hook), 'kind') == 'inline' then
  local delivery = delivery_id(id, hook, 'job.' .. job.state)
  local state = redis.call('HGET', key('dlv:' .. delivery), 'state')
  if not erase or state == 'due' or state == 'flying' then endpoints[#endpoints + 1] = hook
  else unlink_endpoint(hook, tenant) end
  if erase then
    for _, where in ipairs({'ep:' .. hook, 'due:' .. hook, 'dlvs:' .. hook, 'dlv:' .. delivery}) do
      redis.call('PEXPIRE', key(where), HOUR)
    end
    if #endpoints == 1 then redis.call('PEXPIRE', event, HOUR) end -- no other delivery needs it
  end
end
for _, ep in ipairs(endpoints) do
  local delivery = delivery_id(id, ep, 'job.' .. job.state)
  local state = redis.call('HGET', key('dlv:' .. delivery), 'state')
  if state and erase then erase_delivery(ep, delivery, state) end
  told = told or state
end
if told and not erase and (job.meta or '') ~= '' and redis.call('EXISTS', event) == 1 then
  redis.call('HSET', event, 'meta', job.meta) -- moved from the job: deliveries find it there from now on
  keep(tenant, 'v:' .. id, #job.meta)
end

local idem = (job.idem or '') ~= '' and key('idem:' .. tenant .. ':' .. job.idem)
local answer = idem and redis.call('HMGET', idem, 'job', 'lapses') or {}
if answer[1] == id then
  keep(tenant, answer_record(int(answer[2])), -redis.call('HSTRLEN', idem, 'answer') - ANSWER_BYTES)
  redis.call('HDEL', idem, 'answer', 'body_sha')
  redis.call('HSET', idem, 'state', 'gone')
end
local asked = key('asked:' .. id)
if redis.call('SCARD', asked) > CHUNK then
  redis.call('PERSIST', asked)
  redis.call('SADD', key('wipes'), 'a:' .. id)
else
  for _, question in ipairs(redis.call('SMEMBERS', asked)) do redis.call('UNLINK', key('ans:' .. question)) end
  redis.call('UNLINK', asked)
end
redis.call('UNLINK', key('in:' .. id), key('out:' .. id), key('sh:' .. id), key('ids:' .. id), key('part:' .. id),
  key('job:' .. id))
forget(tenant, id)
redis.call('SET', key('gone:' .. id), tenant, 'EX', TOMBSTONE)
redis.call('ZREM', key('purge'), id)
redis.call('ZREM', key('texts'), id)
redis.call('ZREM', key('jobs:' .. tenant), id)
redis.call('PUBLISH', key('ch:' .. id), 'gone')
return 'purged'
