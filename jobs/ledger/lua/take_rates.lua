#!lua flags=allow-oom
-- take_rates(name, amount, window_s, cost, ...): counts costs in the sliding windows of rate limits: in all of them
-- if each has room, else in none. A cost of 0 only reads, a negative cost gives back. Returns {0, or the number of
-- the first limit without room, {previous, its ms, current, its ms}, ...}. A window is the sum of a current and a
-- previous count; the previous one weighs less the older it is. Both have the keys that the library `limits` used, so
-- that a daily quota survives an upgrade.
local out, rules = {0}, {}

local function look(name, span)
  local rule = {current = key('limit:{' .. name .. '}'), previous = key('limit:{' .. name .. '}/-1')}
  rule.n, rule.ttl = int(redis.call('GET', rule.current)), math.max(0, redis.call('PTTL', rule.current))
  if rule.ttl > 0 and rule.ttl < span then
    rule.shift, rule.before, rule.before_ttl, rule.n, rule.ttl = true, rule.n, rule.ttl, 0, rule.ttl + span
  else
    rule.before = int(redis.call('GET', rule.previous))
    rule.before_ttl = math.max(0, redis.call('PTTL', rule.previous))
  end
  return rule
end

local function take(rule)
  if rule.cost == 0 then return end
  if rule.shift then
    redis.call('RENAME', rule.current, rule.previous)
    redis.call('SET', rule.current, rule.cost, 'PX', rule.ttl)
  elseif rule.ttl > 0 then
    redis.call('INCRBY', rule.current, rule.cost)
  else
    rule.ttl = 2 * rule.span
    redis.call('SET', rule.current, rule.cost, 'PX', rule.ttl)
  end
  rule.n = rule.n + rule.cost
end

for i = 1, #ARGV, 4 do
  local span = int(ARGV[i + 2]) * 1000
  local rule = look(ARGV[i], span)
  rule.span, rule.cost = span, int(ARGV[i + 3])
  local used = math.floor(rule.before * rule.before_ttl / span) + rule.n
  if out[1] == 0 and rule.cost > 0 and used + rule.cost > int(ARGV[i + 1]) then out[1] = #rules + 1 end
  rules[#rules + 1] = rule
end
for i, rule in ipairs(rules) do
  if out[1] == 0 then take(rule) end
  out[i + 1] = {rule.before, rule.before_ttl, rule.n, rule.ttl}
end
return out
