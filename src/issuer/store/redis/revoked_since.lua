-- Revocations in their order. KEYS: entries by their order, entries by their end. ARGV: cursor, how many at most.
-- Answers { cursor, entry, until, entry, until … }, without what has ended.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local answer = { ARGV[1] }
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for at = 1, #found, 2 do
  answer[1] = string.format('%.0f', tonumber(found[at + 1]))
  local till = tonumber(redis.call('ZSCORE', KEYS[2], found[at]) or 0)
  if till > now then
    answer[#answer + 1] = found[at]
    answer[#answer + 1] = string.format('%.0f', till)
  end
end
return answer
