-- The ledger knows less than it did: nothing is leased here, nor given back, until it has been recovered. What the buckets of the
-- epoch that was in force hold is final from here on; its number is kept in `sealed`. Repeated, it changes nothing.
-- KEYS 1 epoch, 2 ledger.  ARGV 1 the highest generation of the ledger that the caller knows: where this server was told of a newer
-- one, the ledger was recovered meanwhile, and nothing is sealed.
-- Reply: the sealed epoch, or 0 where none was in force.
--include epoch_guard
--include ledger_guard
if ledger_word(KEYS[2], '', 0, 0).gen > tonumber(ARGV[1]) then return 0 end
local e = current_epoch(KEYS[1])
if e > 0 then
  redis.call('HSET', KEYS[2], 'sealed', e)
  redis.call('HDEL', KEYS[1], 'run')
end
redis.call('HSET', KEYS[2], 'behind', 1)
return tonumber(redis.call('HGET', KEYS[2], 'sealed') or '0')
