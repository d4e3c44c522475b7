-- Lets incarnations lease under an epoch; they come from Postgres, read together with the epoch's number (rule 5).
-- KEYS 1 epoch, 2 registered.  ARGV 1 epoch, 2… incarnations.  Reply: how many are registered, or the string EPOCH.
--include epoch_guard
if current_epoch(KEYS[1]) ~= tonumber(ARGV[1]) then return 'EPOCH' end
for i = 2, #ARGV do redis.call('SADD', KEYS[2], ARGV[i]) end
return redis.call('SCARD', KEYS[2])
