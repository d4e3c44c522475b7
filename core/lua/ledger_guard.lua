-- What is known here of the ledger's past: what the ledger has told (gen, mark), and what sidecars have heard of it and it has not
-- told here (cgen, claimed). A caller that knows more than was told raises the claim. `short` until the ledger has told as much as
-- anybody knows: either this server has forgotten, or the ledger has (docs/adr/0008-a-restored-ledger.md).
-- `all`: what every shard has been told. Only that may be carried to another shard: a commit is told to its own shard first.
-- Claims beyond 2^53 are nobody's: a number that is not exact here.
local function ledger_word(key, generation, mark)
  local l = redis.call('HMGET', key, 'gen', 'mark', 'cgen', 'claimed', 'behind', 'all')
  local w = {gen = tonumber(l[1] or '0'), mark = tonumber(l[2] or '0'), cgen = tonumber(l[3] or '0'),
    claimed = tonumber(l[4] or '0'), blank = not l[1] and not l[3], all = tonumber(l[6] or '0')}
  local function less(g, m, other_g, other_m) return g < other_g or (g == other_g and m < other_m) end
  local exact = generation < 9007199254740992 and mark < 9007199254740992
  if exact and less(w.gen, w.mark, generation, mark) and less(w.cgen, w.claimed, generation, mark) then
    redis.call('HSET', key, 'cgen', string.format('%.0f', generation), 'claimed', string.format('%.0f', mark))
    w.cgen, w.claimed = generation, mark
  end
  w.short = less(w.gen, w.mark, w.cgen, w.claimed)
  w.behind = l[5] and 1 or (w.short and 2 or 0)
  return w
end
