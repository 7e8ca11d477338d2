#!lua
-- dlv_list(ep, before, skip, limit, state): the endpoint's deliveries, newest first, from the time `before` on, the
-- first `skip` of that very time left out; of one state, or all. Returns {next before, next skip, {id, fields,
-- attempts}, ...}; next before is '' at the end. One call looks at 1,000 at most.
local ep, before, skip, limit, state = ARGV[1], ARGV[2], int(ARGV[3]), int(ARGV[4]), ARGV[5]
local list = key('dlvs:' .. ep)
local found = redis.call('ZREVRANGEBYSCORE', list, before, '-inf', 'WITHSCORES', 'LIMIT', skip, 1001)
local out, last, same, gone = {'', 0}, before, skip, {}
for i = 1, #found, 2 do
  if #out - 2 == limit or i > 2000 then
    out[1], out[2] = last, same
    break
  end
  local id, score = found[i], found[i + 1]
  if score == last then same = same + 1 else last, same = score, 1 end
  local flat = redis.call('HGETALL', key('dlv:' .. id))
  local d = {}
  for j = 1, #flat, 2 do d[flat[j]] = flat[j + 1] end
  if not d.ep then gone[#gone + 1] = id
  elseif state == '' or d.state == state or state == 'due' and d.state == 'flying' then
    out[#out + 1] = {id, flat, redis.call('LRANGE', key('att:' .. id), 0, -1)}
  end
end
if out[1] == '' then bulk('ZREM', list, gone) end -- only where no cursor counts on them
return out
