-- What the funder needs to know of buckets.
-- KEYS 1 epoch, 2… buckets.  ARGV 1 epoch.  Reply: {{funded, recalled, free} …} or the string EPOCH.
--include epoch_guard
if current_epoch(KEYS[1]) ~= tonumber(ARGV[1]) then return 'EPOCH' end
local reply = {}
for i = 2, #KEYS do
  local h = redis.call('HMGET', KEYS[i], 'f', 'rc', 'free')
  reply[i - 1] = {tonumber(h[1] or '0'), tonumber(h[2] or '0'), tonumber(h[3] or '0')}
end
return reply
