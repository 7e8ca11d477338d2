#!lua flags=allow-oom
-- wipe_record(record): continues a deletion that was too large for one step. e:<endpoint>: its deliveries; a:<job>:
-- the job's entries in the result cache. Returns 1 if there is still more.
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
