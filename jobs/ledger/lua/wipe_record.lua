#!lua flags=allow-oom
-- wipe_record(record): removes what was more than the step that decided it may remove at once: e:<endpoint>, its deliveries;
-- a:<job>, the answers that the result cache knows of it. 1 if there is still more.
local record, most = ARGV[1], 500
local kind, id, more = string.sub(record, 1, 2), string.sub(record, 3), false
if kind == 'e:' then more = unlink_deliveries(id, most)
else
  local asked = key('asked:' .. id)
  for _, question in ipairs(redis.call('SPOP', asked, most)) do redis.call('UNLINK', key('ans:' .. question)) end
  more = redis.call('EXISTS', asked) == 1
end
if not more then redis.call('SREM', key('wipes'), record) end
return more and 1 or 0
