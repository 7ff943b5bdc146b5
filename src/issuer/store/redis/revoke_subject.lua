-- Ends every refresh family of a subject, by giving it another epoch than the one that they began in.
-- KEYS: the subject. Answers 0 if it has no family.
local time = redis.call('TIME')
local epoch = redis.call('GET', KEYS[1])
if not epoch then
  return 0
end
epoch = math.max(tonumber(epoch) + 1, time[1] * 1000000 + time[2])
redis.call('SET', KEYS[1], string.format('%.0f', epoch), 'KEEPTTL')
return 1
