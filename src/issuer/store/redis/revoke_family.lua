-- Ends a refresh family.
-- KEYS: the family, its subject. ARGV: call, client (empty: whosever it is).
-- Answers { what, body }.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local f = redis.call('HMGET', KEYS[1], 'until', 'client', 'epoch', 'revoked', 'body')
if not f[1] then
  return { 'unknown' }
end
if ARGV[2] ~= '' and ARGV[2] ~= f[2] then
  return { 'wrong_client' }
end
if (f[4] and f[4] ~= ARGV[1]) or redis.call('GET', KEYS[2]) ~= f[3] then
  return { 'before' }
end
if now >= tonumber(f[1]) then
  return { 'unknown' }
end
redis.call('HSET', KEYS[1], 'revoked', ARGV[1])
return { 'now', f[5] }
