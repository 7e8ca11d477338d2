#!lua flags=no-writes
-- find_cached_results(tenant, max_bytes, question...): returns for each question the place of its result,
-- job:shard:at, or nil; then job, shard and results of every shard that holds one, up to about max_bytes. Purged
-- results are missing.
local tenant, most, names = ARGV[1], int(ARGV[2]), {}
for i = 3, #ARGV do names[#names + 1] = key('ans:' .. ARGV[i]) end
local places, shards, seen, bytes = redis.call('MGET', unpack(names)), {}, {}, 0
for _, place in ipairs(places) do
  local id, shard = string.match(place or '', '^(.+):(%d+):%d+$')
  if id and not seen[member(id, shard)] and bytes < most then
    seen[member(id, shard)] = true
    -- The question already contains the tenant; this check holds even if somebody has tampered with the store.
    local ours = redis.call('HGET', key('job:' .. id), 'tenant') == tenant
    local blob = ours and redis.call('HGET', key('out:' .. id), shard)
    if blob then
      shards[#shards + 1] = {id, shard, blob}
      bytes = bytes + #blob
    end
  end
end
return {places, shards}
