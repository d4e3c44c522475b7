-- Raises a bucket's funding to a cumulative total that the ledger holds for this epoch, and tells what the ledger knows.
-- Refused where the bucket knows less than it once acknowledged, or bears another mark than the one that the ledger funds:
-- it has lost something (rule 4).
-- KEYS 1 epoch, 2 bucket.
-- ARGV 1 epoch, 2 acknowledged total, 3 new total, 4 avail (what the ledger could still fund after this), 5 used,
--   6 dry (the ledger's version where it is exhausted, else empty), 7 low (ask again when free falls below),
--   8 mark (stat.lua; empty: none).
-- Reply: funded total, or the string EPOCH or LOST. A new total below the funded one is a late call's: its news are old.
--include epoch_guard
if current_epoch(KEYS[1]) ~= tonumber(ARGV[1]) then return 'EPOCH' end
local h = redis.call('HMGET', KEYS[2], 'f', 'free', 'born')
local funded, free = tonumber(h[1] or '0'), tonumber(h[2] or '0')
if funded < tonumber(ARGV[2]) or (h[3] or '') ~= ARGV[8] then return 'LOST' end
local more = tonumber(ARGV[3]) - funded
if more < 0 then return funded end
redis.call('HSET', KEYS[2], 'f', funded + more, 'free', free + more, 'avail', ARGV[4], 'used', ARGV[5], 'low', ARGV[7])
if not h[1] then redis.call('HSET', KEYS[2], 'rc', 0) end
if ARGV[6] == '' then redis.call('HDEL', KEYS[2], 'dry', 'kick', 'need', 'want') else
  redis.call('HSET', KEYS[2], 'dry', ARGV[6])
  redis.call('HDEL', KEYS[2], 'kick', 'need', 'want')
end
return funded + more
