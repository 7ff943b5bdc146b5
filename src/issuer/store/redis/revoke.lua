-- Keeps a revocation. KEYS: entries by their order, entries by their end. ARGV: entry, until (ms).
-- The order counts in microseconds, so that it goes on even where Redis lost what it had.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- What has ended goes, some at a time.
local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'LIMIT', 0, 100)
if #ended > 0 then
  redis.call('ZREM', KEYS[1], unpack(ended))
  redis.call('ZREM', KEYS[2], unpack(ended))
end

local known = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or 0)
if tonumber(ARGV[2]) <= math.max(now, known) then
  return 0
end
local last = tonumber(redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or 0)
local sequence = math.max(last + 1, time[1] * 1000000 + time[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', sequence), ARGV[1])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
return 1
