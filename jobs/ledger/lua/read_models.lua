#!lua flags=no-writes
-- read_models(slug...): returns live workers, revision, backlog, load error and facts of each model.
local rows = {}
for _, slug in ipairs(ARGV) do
  local m = redis.call('HMGET', key('model:' .. slug), 'rev', 'reason', 'open_jobs', 'open_chars', 'drain_rate',
    'facts')
  rows[#rows + 1] = {redis.call('ZCOUNT', key('workers:' .. slug), NOW, '+inf'), m[1] or '', m[2] or '', int(m[3]),
    int(m[4]), m[5] or '0', redis.call('ZCARD', key('open:' .. slug)), m[6] or ''}
end
return rows
