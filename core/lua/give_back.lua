-- Returns what a closed incarnation did not spend: granted − spent − returned before. Idempotent.
-- KEYS 1 epoch, 2 closed, 3… buckets.  ARGV 1 epoch, 2 incarnation, 3… spent (cumulative in this epoch, from its log).
-- Reply: units returned in all, or the string EPOCH, or OPEN where the incarnation is not closed.
--include epoch_guard
if current_epoch(KEYS[1]) ~= tonumber(ARGV[1]) then return 'EPOCH' end
local inc = ARGV[2]
if redis.call('SISMEMBER', KEYS[2], inc) == 0 then return 'OPEN' end
local total = 0
for i = 3, #KEYS do
  local h = redis.call('HMGET', KEYS[i], 'free', 'g:' .. inc, 'r:' .. inc, 's:' .. inc, 'lying')
  local rest = tonumber(h[2] or '0') - tonumber(ARGV[i]) - tonumber(h[3] or '0')
  if h[2] and rest > 0 then
    redis.call('HSET', KEYS[i], 'free', tonumber(h[1]) + rest, 'r:' .. inc, tonumber(h[3] or '0') + rest)
    total = total + rest
  end
  -- Nothing of it lies unused with anybody any more (lease.lua).
  if h[4] then
    local mine = math.max(0, tonumber(h[2] or '0') - tonumber(h[3] or '0') - tonumber(h[4]))
    redis.call('HSET', KEYS[i], 'lying', math.max(0, tonumber(h[5] or '0') - mine))
    redis.call('HDEL', KEYS[i], 's:' .. inc)
  end
end
return total
