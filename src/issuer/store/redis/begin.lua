-- Begins a refresh family at generation 1.
-- KEYS: the family, its subject. ARGV: call, client, idle (ms), absolute until (ms), body, remembered (ms).
-- Answers 1; 0 if there is another family of that name.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local idle, absolute, remembered = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[6])

local known = redis.call('HGET', KEYS[1], 'call')
if known then
  return known == ARGV[1] and 1 or 0
end

-- The subject's epoch outlives all of its families: without an epoch there is none.
local epoch = redis.call('GET', KEYS[2])
if epoch then
  redis.call('PEXPIREAT', KEYS[2], string.format('%.0f', absolute + remembered), 'GT')
else
  epoch = string.format('%.0f', time[1] * 1000000 + time[2])
  redis.call('SET', KEYS[2], epoch, 'PXAT', string.format('%.0f', absolute + remembered))
end

local till = math.min(now + idle, absolute)
redis.call('HSET', KEYS[1], 'generation', 1, 'rotated', string.format('%.0f', now),
  'until', string.format('%.0f', till), 'client', ARGV[2], 'idle', ARGV[3], 'absolute', ARGV[4],
  'epoch', epoch, 'call', ARGV[1], 'body', ARGV[5])
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', till + remembered))
return 1
