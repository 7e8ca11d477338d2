#!lua flags=no-writes
-- find_document(job, doc_id, index): returns the shard that holds a document, with its results, or with its payload
-- if there are none. index: the index that a numeric id stands for, else ''. The caller checks that this document has
-- no other id.
local id = ARGV[1]
local job = read_job(id)
if not job then
  local tenant = redis.call('GET', key('gone:' .. id))
  return tenant and {'gone', tenant} or {'absent'}
end
local place = redis.call('HGET', key('ids:' .. id), ARGV[2]) or ARGV[3]
local index, first, shards = tonumber(place), 0, int(job.shards)
if not index or index >= int(job.total) then return {'document', describe(job)} end
for at = 0, shards - 1, CHUNK do
  local names = {}
  for shard = at, math.min(at + CHUNK, shards) - 1 do names[#names + 1] = shard end
  for i, text in ipairs(redis.call('HMGET', key('sh:' .. id), unpack(names))) do
    local record = text and unpack_shard(text)
    if not record then return {'document', describe(job)} end
    if index < first + record.ndocs then
      local blob = redis.call('HGET', key(record.st == 'd' and 'out:' or 'in:') .. id, names[i])
      return {'document', describe(job), index, names[i], record.st, record.attempts, blob or ''}
    end
    first = first + record.ndocs
  end
end
return {'document', describe(job)}
