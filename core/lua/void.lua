-- Takes out of a bucket of a sealed epoch what lies idle there: nobody will ever lease it. Elsewhere it changes nothing.
-- KEYS 1 ledger, 2 bucket.  ARGV 1 epoch of the bucket.  Reply: {funded, recalled}, or 0 where there is none that the ledger has funded.
local h = redis.call('HMGET', KEYS[2], 'f', 'rc', 'free', 'ro')
if not h[1] or h[4] then return 0 end
local recalled, free = tonumber(h[2] or '0'), tonumber(h[3] or '0')
if free > 0 and redis.call('HGET', KEYS[1], 'sealed') == ARGV[1] then
  recalled = recalled + free
  redis.call('HSET', KEYS[2], 'rc', recalled, 'free', 0)
end
return {tonumber(h[1]), recalled}
