#!lua flags=allow-oom
-- due_shards(slug): returns up to 200 due entries of open:<slug>, as job, shard, state, ...; removes entries whose
-- job is missing or has ended.
local where = key('open:' .. ARGV[1])
local due = redis.call('ZRANGEBYSCORE', where, '-inf', NOW, 'LIMIT', 0, 200)
local reply, ghosts = {}, {}
for _, name in ipairs(due) do
  local id, shard = string.match(name, '^(.*):(%d+)$')
  local job = read_job(id)
  local record = job and read_shard(id, shard)
  if not record or terminal(job) or record.st == 'd' or record.st == 'c' or record.st == 'x' then
    ghosts[#ghosts + 1] = name
  else
    reply[#reply + 1] = id
    reply[#reply + 1] = shard
    reply[#reply + 1] = record.st
  end
end
bulk('ZREM', where, ghosts)
return reply
