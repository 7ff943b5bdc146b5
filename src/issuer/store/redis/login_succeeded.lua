-- Forgives logins: all of them (ARGV 'all'), or one. KEYS: whose.
local tries = tonumber(redis.call('HGET', KEYS[1], 'tries') or 0)
if ARGV[1] == 'all' or tries <= 1 then
  redis.call('DEL', KEYS[1])
else
  redis.call('HSET', KEYS[1], 'tries', tries - 1)
end
return 1
