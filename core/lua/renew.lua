-- Asks which epoch this server may act under, and tells it how far the ledger's clock is ahead of its own. Never creates
-- an epoch (rule 3). What a late call tells is as good as ever: an offset does not age as a time would.
-- KEYS 1 epoch.  ARGV nothing, or 1 epoch, 2 ms.  Reply: the epoch's number, or 0.
--include epoch_guard
local e, off = current_epoch(KEYS[1])
if ARGV[2] and e > 0 and e == tonumber(ARGV[1]) and math.abs(tonumber(ARGV[2]) - off) > 20 then
  redis.call('HSET', KEYS[1], 'off', ARGV[2])
end
return e
