#!lua flags=allow-oom
-- return_deliveries(id...): makes deliveries due at once that were handed out but not tried.
for _, id in ipairs(ARGV) do
  local d = redis.call('HMGET', key('dlv:' .. id), 'ep', 'state', 'tenant')
  if d[1] and d[2] == 'due' and redis.call('ZSCORE', key('due:' .. d[1]), id) then
    local lane = redis.call('HGET', key('ep:' .. d[1]), 'lane')
    leave_hand(lane or '', d[3], id)
    look_at(d[1], id, NOW)
  end
end
return 1
