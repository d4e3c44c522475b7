-- The ledger tells how far it is, and hears which epoch this server may act under. Never creates one (rule 3). Where more is known
-- here than the ledger says, nothing is written. A new generation is told by tell.lua, with the watermarks that belong to it.
-- KEYS 1 epoch, 2 ledger.  ARGV 1 generation, 2 mark, 3 the mark of this generation that all shards are known to have been told.
-- Reply: {epoch in force or 0, highest number of an epoch here, generation told, highest generation and mark known, 1 where this
--   server had never heard of the ledger}.
--include epoch_guard
--include ledger_guard
local generation, mark = tonumber(ARGV[1]), tonumber(ARGV[2])
local w = ledger_word(KEYS[2], 0, 0)
local g, m = w.gen, w.mark
if w.short then g, m = w.cgen, w.claimed end
if generation == w.gen and (g < generation or (g == generation and m <= mark)) then
  redis.call('HSET', KEYS[2], 'gen', ARGV[1], 'mark', ARGV[2])
  if w.all < tonumber(ARGV[3]) then redis.call('HSET', KEYS[2], 'all', ARGV[3]) end
end
return {current_epoch(KEYS[1]), tonumber(redis.call('HGET', KEYS[1], 'n') or '0'), w.gen, g, m, w.blank and 1 or 0}
