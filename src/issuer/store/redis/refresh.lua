-- Takes a generation of a refresh family for its successor.
-- KEYS: the family, its subject. ARGV: call, generation, client, leeway (ms), remembered (ms).
-- Answers { what, generation, body }. `call` is drawn for each call: the client library may send one twice when its
-- connection is cut, and the second must get the first's answer.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local call, asked, leeway, remembered = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[5])

local f = redis.call('HMGET', KEYS[1], 'generation', 'rotated', 'until', 'client', 'idle', 'absolute', 'epoch',
  'call', 'revoked', 'body')
local generation = tonumber(f[1])
if not generation then
  return { 'unknown' }
end
if f[4] ~= ARGV[3] then
  return { 'wrong_client' }
end
if (f[9] and f[9] ~= call) or redis.call('GET', KEYS[2]) ~= f[7] then
  return { 'revoked' }
end
if now >= tonumber(f[3]) then
  return { 'expired' }
end

if asked == generation and not f[9] then
  local till = math.min(now + tonumber(f[5]), tonumber(f[6]))
  redis.call('HSET', KEYS[1], 'generation', generation + 1, 'rotated', string.format('%.0f', now),
    'until', string.format('%.0f', till), 'call', call)
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', till + remembered))
  return { 'advanced', generation + 1, f[10] }
end
if asked == generation - 1 then
  if f[8] == call then
    return { 'advanced', generation, f[10] }
  end
  if not f[9] and now - tonumber(f[2]) < leeway then
    return { 'again', generation, f[10] }
  end
end

-- Spent, or never given: nothing of the family lives on.
redis.call('HSET', KEYS[1], 'revoked', call)
return { asked > generation and 'ahead' or 'reused', generation, f[10] }
