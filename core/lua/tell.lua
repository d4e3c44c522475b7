-- A generation of the ledger that this server has not heard of, with the watermarks that belong to it: earlier ones are void. Ends
-- what seal.lua began.
-- KEYS 1 ledger, 2 watermark.  ARGV 1 generation, 2 mark, 3 the ledger's id, then pairs incarnation, watermark.
-- Reply: 1, or 0 where more is known here, or another ledger.
--include ledger_guard
local generation, mark = tonumber(ARGV[1]), tonumber(ARGV[2])
local w = ledger_word(KEYS[1], '', 0, 0)
if (w.id ~= '' and w.id ~= ARGV[3]) or w.gen > generation or w.cgen > generation or (w.cgen == generation and w.claimed > mark)
  or (w.gen == generation and w.mark > mark) then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[1], 'id', ARGV[3], 'gen', ARGV[1], 'mark', ARGV[2])
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
return 1
