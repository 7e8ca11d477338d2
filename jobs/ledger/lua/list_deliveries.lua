#!lua
-- list_deliveries(ep, before, skip, limit, state): returns the endpoint's deliveries, newest first, beginning at the
-- time `before`, without the first `skip` of exactly that time; of one state, or all. Returns {next before, next
-- skip, {id, fields, attempts}, ...}; next before is '' at the end. One call looks at SCAN deliveries at most, and
-- reads only the fields that are shown: payload and metadata are the largest part of a delivery.
local SCAN = 200
local NAMES = {'ep', 'tenant', 'job', 'event', 'state', 'created', 'next', 'ended'}
local ep, before, skip, limit, state = ARGV[1], ARGV[2], int(ARGV[3]), int(ARGV[4]), ARGV[5]
local list = key('dlvs:' .. ep)
local found = redis.call('ZREVRANGEBYSCORE', list, before, '-inf', 'WITHSCORES', 'LIMIT', skip, SCAN + 1)
local out, last, same, gone = {'', 0}, before, skip, {}

local function shown(id)
  local values, flat = redis.call('HMGET', key('dlv:' .. id), unpack(NAMES)), {}
  for i, name in ipairs(NAMES) do
    if values[i] then
      flat[#flat + 1] = name
      flat[#flat + 1] = values[i]
    end
  end
  return {id, flat, redis.call('LRANGE', key('att:' .. id), 0, -1)}
end

for i = 1, #found, 2 do
  if #out - 2 == limit or i > 2 * SCAN then
    out[1], out[2] = last, same
    break
  end
  local id, score = found[i], found[i + 1]
  if score == last then same = same + 1 else last, same = score, 1 end
  local now = redis.call('HGET', key('dlv:' .. id), 'state')
  if not now then gone[#gone + 1] = id
  elseif state == '' or now == state or state == 'due' and now == 'flying' then
    out[#out + 1] = shown(id)
  end
end
if out[1] == '' then bulk('ZREM', list, gone) end -- only at the end, where no cursor depends on them
return out
