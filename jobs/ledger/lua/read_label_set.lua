#!lua flags=no-writes
-- read_label_set(tenant, name, version): returns the numbers of the latest version ever made and of the first one
-- since the set was last created ('' if there is none now), the time and the content of `version` (0: the latest).
local where = key('lset:' .. ARGV[1] .. ':' .. ARGV[2])
local head = redis.call('HMGET', where, 'latest', 'first')
local version = ARGV[3] == '0' and head[1] or ARGV[3]
local content = redis.call('HMGET', where, 'at:' .. (version or ''), version or '')
return {head[1] or '', head[2] or '', content[1] or '', content[2] or ''}
