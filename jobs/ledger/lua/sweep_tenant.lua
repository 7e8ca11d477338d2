#!lua flags=allow-oom
-- sweep_tenant(tenant): removes records of a tenant whose data is gone (a TTL ended before upkeep came), some records
-- per call, in turn. If the tenant has few records, all are summed up again. Returns the size of the error in bytes.
local tenant = ARGV[1]
local books, sums = key('kept:' .. tenant), key('tenant:' .. tenant)
local from = redis.call('HGET', sums, 'swept') or '0'
local found = redis.call('HSCAN', books, from, 'COUNT', 500)

local function is_there(record)
  local kind, id = string.sub(record, 1, 2), string.sub(record, 3)
  if kind == 'd:' then return redis.call('EXISTS', key('dlv:' .. id)) == 1
  elseif kind == 'e:' then return redis.call('EXISTS', key('ep:' .. id)) == 1
  elseif kind == 'l:' then return redis.call('HEXISTS', key('lset:' .. tenant .. ':' .. id), 'first') == 1
  elseif kind == 'v:' then return redis.call('EXISTS', key('event:' .. id)) == 1
  elseif kind == 'u:' then return (int(id) + 1) * HOUR > NOW end
  return redis.call('EXISTS', key('job:' .. record), key('stage:' .. record)) > 0
end

local gone, sum, wrong = {}, 0, 0
for i = 1, #found[2], 2 do
  local record, bytes = found[2][i], int(found[2][i + 1])
  if not is_there(record) then
    gone[#gone + 1] = record
    wrong = wrong + bytes
  else sum = sum + bytes end
end
bulk('HDEL', books, gone)
local stored = int(redis.call('HGET', sums, 'stored'))
if from ~= '0' or found[1] ~= '0' then sum = math.max(0, stored - wrong)
else wrong = math.abs(stored - sum) end
redis.call('HSET', sums, 'swept', found[1], 'stored', sum)
if redis.call('EXISTS', books) == 0 then
  redis.call('HDEL', sums, 'swept', 'stored')
  redis.call('SREM', key('tenants'), tenant)
end
return wrong
