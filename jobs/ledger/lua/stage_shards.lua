#!lua
-- stage_shards(job, ttl_ms, ids, tenant, most, shard, blob, shard, blob, ...): stores payloads of a job whose upload
-- is not complete. ids: JSON [doc id, index, ...] or ''. most: limit of the tenant's stored bytes; 0 is no limit.
-- Without payloads it only extends the stage's time.
local id, ttl, ids, tenant, most = ARGV[1], int(ARGV[2]), ARGV[3] ~= '' and cjson.decode(ARGV[3]) or {}, ARGV[4], int(ARGV[5])
if redis.call('EXISTS', key('job:' .. id)) == 1 then return 'exists' end
local texts, names = 0, 0
for i = 7, #ARGV, 2 do texts = texts + #ARGV[i] end
for i = 1, #ids, 2 do names = names + #ids[i] + ID_BYTES end
local reserve = 3 * (texts + #ARGV[3])
if texts > 0 then
  local used, room = memory()
  local reserved = int(redis.call('HGET', key('sys'), 'reserve'))
  if room > 0 and used + reserved + reserve > 0.7 * room then return 'memory_full' end
  local stored = int(redis.call('HGET', key('tenant:' .. tenant), 'stored'))
  if most > 0 and stored + texts + names > most then return 'stored' end
end
local new = redis.call('EXISTS', key('in:' .. id)) == 0
local added = 0
if #ARGV > 6 then added = redis.call('HSET', key('in:' .. id), unpack(ARGV, 6)) end
bulk('HSET', key('ids:' .. id), ids)
for _, name in ipairs({'in:', 'ids:', 'stage:'}) do redis.call('PEXPIRE', key(name .. id), ttl) end
redis.call('ZADD', key('staging'), NOW + ttl, id)
if added > 0 then -- else this is a repetition whose first reply was lost
  redis.call('HINCRBY', key('sys'), 'reserve', reserve)
  redis.call('HINCRBY', key('staged'), id, reserve)
  redis.call('HSET', key('stage:' .. id), 'tenant', tenant)
  redis.call('HINCRBY', key('stage:' .. id), 'texts', texts)
  redis.call('HINCRBY', key('stage:' .. id), 'ids', names)
  redis.call('PEXPIRE', key('stage:' .. id), ttl)
  if tenant ~= '' then keep(tenant, id, texts + names) end
end
return new and 'new' or 'more'
