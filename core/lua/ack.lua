-- After the ledger's commit: the entries leave the stream, the watermarks move up, never down (rule 10).
-- KEYS 1 usage stream, 2 watermark.  ARGV 1 group, 2 number of ids, ids…, then pairs incarnation, watermark.
-- Reply: how many entries were removed.
local count = tonumber(ARGV[2])
local removed = 0
for i = 3, 2 + count, 500 do
  local last = math.min(i + 499, 2 + count)
  redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, i, last))
  removed = removed + redis.call('XDEL', KEYS[1], unpack(ARGV, i, last))
end
for i = 3 + count, #ARGV, 2 do
  if tonumber(redis.call('HGET', KEYS[2], ARGV[i]) or '0') < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
return removed
