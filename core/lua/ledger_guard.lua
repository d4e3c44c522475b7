-- What is known here of the ledger's past: which ledger it is (id), what it has told (gen, mark), and what sidecars have heard of
-- it and it has not told here (cid, cgen, claimed). A caller that knows more than was told raises the claim. `short` until the
-- ledger has told as much as anybody knows: either this server has forgotten, or the ledger has
-- (docs/adr/0008-a-restored-ledger.md).
-- `all`: what every shard has been told. Only that may be carried to another shard: a commit is told to its own shard first.
-- A claim of another ledger, or of more steps than one could have made since it last told, is none: it is noted in `odd`, for the
-- operator to say so.
local function ledger_word(key, id, generation, mark)
  local most_steps, most_generations = 1099511627776, 1048576
  local l = redis.call('HMGET', key, 'gen', 'mark', 'cgen', 'claimed', 'behind', 'all', 'id', 'cid', 'odd')
  -- What is no count was written by nobody who knows this: it is dropped, and told anew.
  for i, field in pairs({'gen', 'mark', 'cgen', 'claimed', [6] = 'all'}) do
    if l[i] and not (string.match(l[i], '^%d+$') and tonumber(l[i]) < 9007199254740992) then
      redis.call('HDEL', key, field)
      redis.call('HSET', key, 'odd', field .. ' is no count')
      l[i], l[9] = false, field .. ' is no count'
    end
  end
  local w = {gen = tonumber(l[1] or '0'), mark = tonumber(l[2] or '0'), cgen = tonumber(l[3] or '0'),
    claimed = tonumber(l[4] or '0'), blank = not l[1] and not l[3], all = tonumber(l[6] or '0'), id = l[7] or '', cid = l[8] or '',
    odd = l[9] or ''}
  local function less(g, m, other_g, other_m) return g < other_g or (g == other_g and m < other_m) end
  if less(w.gen, w.mark, generation, mark) then
    local ours = (w.id == '' or w.id == id) and generation <= w.gen + most_generations and mark <= w.mark + most_steps
    local odd = string.format('%s %.0f.%.0f', id, generation, mark)
    if not ours and odd ~= w.odd then redis.call('HSET', key, 'odd', odd) end
    if ours and (w.cid == '' or w.cid == id) and less(w.cgen, w.claimed, generation, mark) then
      redis.call('HSET', key, 'cid', id, 'cgen', string.format('%.0f', generation), 'claimed', string.format('%.0f', mark))
      w.cid, w.cgen, w.claimed = id, generation, mark
    end
  end
  w.short = less(w.gen, w.mark, w.cgen, w.claimed)
  w.behind = l[5] and 1 or (w.short and 2 or 0)
  return w
end
