-- What the funder needs to know of buckets. Those that bear no mark get the one given: a bucket that Redis loses and makes
-- again has another one (rule 4).
-- KEYS 1 epoch, 2… buckets.  ARGV 1 epoch, 2 mark, never used before.
-- Reply: {{funded, recalled, free, need, attention, want, mark} …} or the string EPOCH. need: the largest single request that
-- went short since the last funding; want: the most units that somebody would have taken at once; attention: 1 where funding
-- was asked for, is due, or the bucket is dry or unknown.
--include epoch_guard
if current_epoch(KEYS[1]) ~= tonumber(ARGV[1]) then return 'EPOCH' end
local reply = {}
for i = 2, #KEYS do
  local h = redis.call('HMGET', KEYS[i], 'f', 'rc', 'free', 'need', 'kick', 'dry', 'low', 'want', 'born')
  local free = tonumber(h[3] or '0')
  local attention = (not h[1] or h[5] or h[6] or free < tonumber(h[7] or '1')) and 1 or 0
  if not h[9] then redis.call('HSET', KEYS[i], 'born', ARGV[2]) end
  reply[i - 1] = {tonumber(h[1] or '0'), tonumber(h[2] or '0'), free, tonumber(h[4] or '0'), attention,
    tonumber(h[8] or '0'), h[9] or ARGV[2]}
end
return reply
