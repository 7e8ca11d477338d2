#!lua flags=allow-oom
-- list_jobs(tenant, limit, after, before, before_id, state...): a tenant's jobs, newest first, created after `after`
-- and behind the place (before, before_id); only those in one of the states, if any is named. Looks at SCAN jobs at
-- most. Members whose job lapsed are removed when met.
local SCAN, STEP = 2000, 100
local tenant, limit, after, before, before_id = ARGV[1], int(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local where, wanted = key('jobs:' .. tenant), {}
for i = 6, #ARGV do wanted[ARGV[i]] = true end
local highest = before ~= '' and before or '+inf'
local lowest = after ~= '' and '(' .. after or '-inf'
local rows, lapsed, at, at_id, more = {}, {}, '', '', false
local offset, scanned = 0, 0

local function take(id)
  local state = redis.call('HGET', key('job:' .. id), 'state')
  if not state then
    lapsed[#lapsed + 1] = id
  elseif #ARGV < 6 or wanted[state] then
    local job = read_job(id)
    job.opts = '' -- labels are not listed
    rows[#rows + 1] = {id, describe(job)}
  end
end

repeat
  local found = redis.call('ZREVRANGEBYSCORE', where, highest, lowest, 'WITHSCORES', 'LIMIT', offset, STEP)
  more = #found == 2 * STEP
  for i = 1, #found, 2 do
    local id, score = found[i], found[i + 1]
    if not (score == before and id >= before_id) then
      if #rows >= limit or scanned >= SCAN then
        more = true
        break
      end
      take(id)
      scanned, at, at_id = scanned + 1, score, id
    end
  end
  offset = offset + STEP
until not more or #rows >= limit or scanned >= SCAN
bulk('ZREM', where, lapsed)
return {more and at_id ~= '' and 1 or 0, at, at_id, rows}
