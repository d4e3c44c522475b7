-- After the ledger's commit: the entries leave the stream, the watermarks move up, never down (rule 10).
-- KEYS 1 usage stream, 2 watermark, 3 ledger.
-- ARGV 1 group, 2 generation and 3 mark of the ledger with this commit, 4 number of ids, ids…, then pairs incarnation, watermark.
-- Watermarks of another generation than was told here last are not taken: they would hide which records are to be sent again.
-- Reply: how many entries were removed.
--include ledger_guard
local count = tonumber(ARGV[4])
local removed = 0
for i = 5, 4 + count, 500 do
  local last = math.min(i + 499, 4 + count)
  redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, i, last))
  removed = removed + redis.call('XDEL', KEYS[1], unpack(ARGV, i, last))
end
local w = ledger_word(KEYS[3], '', 0, 0)
if w.gen ~= tonumber(ARGV[2]) then return removed end
if w.mark < tonumber(ARGV[3]) then redis.call('HSET', KEYS[3], 'gen', ARGV[2], 'mark', ARGV[3]) end
for i = 5 + count, #ARGV, 2 do
  if tonumber(redis.call('HGET', KEYS[2], ARGV[i]) or '0') < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
return removed
