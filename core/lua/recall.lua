-- Takes idle units out of a bucket, up to a cumulative target (rule 12).
-- KEYS 1 epoch, 2 bucket.  ARGV 1 epoch, 2 target total.  Reply: recalled total, or the string EPOCH.
--include epoch_guard
if current_epoch(KEYS[1]) ~= tonumber(ARGV[1]) then return 'EPOCH' end
local h = redis.call('HMGET', KEYS[2], 'f', 'rc', 'free')
if not h[1] then return 0 end
local recalled, free = tonumber(h[2] or '0'), tonumber(h[3] or '0')
local take = math.min(free, math.max(0, tonumber(ARGV[2]) - recalled))
if take > 0 then redis.call('HSET', KEYS[2], 'rc', recalled + take, 'free', free - take) end
return recalled + take
