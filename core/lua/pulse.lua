-- The ledger tells which it is and how far. Where more is known here than it says, its mark is not written; where this server is of
-- another ledger, nothing is. A new generation is told by tell.lua, with the watermarks that belong to it. What was claimed here of
-- another ledger before this one told its id is dropped.
-- KEYS 1 epoch, 2 ledger.  ARGV 1 generation, 2 mark, 3 the mark of this generation that all shards are known to have been told, 4 id.
-- Reply: {highest number of an epoch here, generation told, highest generation and mark known, 1 where this server had never heard of
--   the ledger, the id that it was told before or '', a claim that was refused or ''}.
--include ledger_guard
local id, generation, mark = ARGV[4], tonumber(ARGV[1]), tonumber(ARGV[2])
local highest = tonumber(redis.call('HGET', KEYS[1], 'n') or '0')
local w = ledger_word(KEYS[2], '', 0, 0)
if w.id ~= '' and w.id ~= id then return {highest, w.gen, 0, 0, 0, w.id, ''} end
local tells = generation >= w.gen
if tells and w.cid ~= '' and w.cid ~= id then
  w.odd = string.format('%s %.0f.%.0f', w.cid, w.cgen, w.claimed)
  redis.call('HDEL', KEYS[2], 'cid', 'cgen', 'claimed')
  w.short, w.blank = false, w.id == ''
end
if tells and w.odd ~= '' then redis.call('HDEL', KEYS[2], 'odd') end
if tells and w.id == '' then redis.call('HSET', KEYS[2], 'id', id) end
local g, m = w.gen, w.mark
if w.short then g, m = w.cgen, w.claimed end
if generation == w.gen and (g < generation or (g == generation and m <= mark)) then
  redis.call('HSET', KEYS[2], 'gen', ARGV[1], 'mark', ARGV[2])
  if w.all < tonumber(ARGV[3]) then redis.call('HSET', KEYS[2], 'all', ARGV[3]) end
end
return {highest, w.gen, g, m, w.blank and 1 or 0, w.id, w.odd}
