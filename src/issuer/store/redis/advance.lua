-- Compare and set. KEYS: the entry. ARGV: from (0: there is none), value.
-- Answers { 1, version } if it was set, or was by the same call before; else { 0, version, value }.
local from = tonumber(ARGV[1])
local e = redis.call('HMGET', KEYS[1], 'version', 'value')
local version = tonumber(e[1] or 0)
if version == from then
  redis.call('HSET', KEYS[1], 'version', from + 1, 'value', ARGV[2])
  return { 1, from + 1 }
end
if version == from + 1 and e[2] == ARGV[2] then
  return { 1, version }
end
return { 0, version, e[2] or '' }
