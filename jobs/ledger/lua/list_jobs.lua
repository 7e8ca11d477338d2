#!lua flags=allow-oom
-- list_jobs(tenant, limit, after, before, before_id, state...): returns a tenant's jobs, newest first, created after
-- `after` and following the position (before, before_id); only those in one of the states, if any is given. Looks at
-- SCAN jobs at most: a rare state takes several calls, and other callers run in between. Entries of jobs that have
-- expired are removed, SWEEP of them at most.
local SCAN, SWEEP, STEP = 200, 2000, 100
local tenant, limit, after, before, before_id = ARGV[1], int(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local where, wanted = key('jobs:' .. tenant), {}
for i = 6, #ARGV do wanted[ARGV[i]] = true end
local highest = before ~= '' and before or '+inf'
local lowest = after ~= '' and '(' .. after or '-inf'
local rows, lapsed, models, at, at_id, more = {}, {}, {}, '', '', false
local offset, scanned = 0, 0
local function enough() return #rows >= limit or scanned >= SCAN or #lapsed >= SWEEP end

local function take(id)
  local state = redis.call('HGET', key('job:' .. id), 'state')
  if not state then
    lapsed[#lapsed + 1] = id
    return
  end
  scanned = scanned + 1
  if #ARGV < 6 or wanted[state] then
    local job = read_job(id)
    job.opts = '' -- a list does not show labels
    rows[#rows + 1] = {id, describe(job, models)}
  end
end

repeat
  local found = redis.call('ZREVRANGEBYSCORE', where, highest, lowest, 'WITHSCORES', 'LIMIT', offset, STEP)
  more = #found == 2 * STEP
  for i = 1, #found, 2 do
    local id, score = found[i], found[i + 1]
    if not (score == before and id >= before_id) then
      if enough() then
        more = true
        break
      end
      take(id)
      at, at_id = score, id
    end
  end
  offset = offset + STEP
until not more or enough()
bulk('ZREM', where, lapsed)
return {more and at_id ~= '' and 1 or 0, at, at_id, rows}
