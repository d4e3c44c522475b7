-- Marks an incarnation as one that will never lease again, and names the buckets that it has leased from. Called by its
-- successor on the same data folder, or by itself at the end of a drain; give_back follows.
-- KEYS 1 epoch, 2 closed, 3 held.  ARGV 1 epoch, 2 incarnation.  Reply: list of members, or the string EPOCH.
--include epoch_guard
if current_epoch(KEYS[1]) ~= tonumber(ARGV[1]) then return 'EPOCH' end
redis.call('SADD', KEYS[2], ARGV[2])
return redis.call('ZRANGE', KEYS[3], 0, -1)
