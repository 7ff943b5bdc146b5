-- How long a login has to wait (ms); 0: it goes on, and counts as failed until it is forgiven.
-- KEYS: whose logins. ARGV: free tries, first wait, longest wait, forgotten after (ms).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local l = redis.call('HMGET', KEYS[1], 'tries', 'next')
local tries, following = tonumber(l[1] or 0), tonumber(l[2] or 0)
if following > now then
  return following - now
end

tries = tries + 1
local over, wait = tries - math.max(tonumber(ARGV[1]), 1), 0
if over >= 0 then
  wait = math.min(tonumber(ARGV[2]) * 2 ^ math.min(over, 30), tonumber(ARGV[3]))
end
redis.call('HSET', KEYS[1], 'tries', tries, 'next', string.format('%.0f', now + wait))
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', now + wait + tonumber(ARGV[4])))
return 0
