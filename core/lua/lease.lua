-- Moves units of several buckets to one registered incarnation, all or nothing; takes back what it returns. Totals are
-- cumulative per incarnation and bucket, so that a call repeated or answered late changes nothing twice.
-- With no buckets it is the heartbeat: epoch and watermark.
-- KEYS 1 epoch, 2 registered, 3 closed, 4 want, 5 watermark, 6 held, 7 minted, 8 heard, 9 ledger, 10… buckets.
-- ARGV 1 epoch, 2 incarnation, 3 the ledger's time in ms as the caller knows it, 4 channel,
--   5 shard as two digits, 6 id, 7 generation and 8 mark of the ledger that the caller has heard, then per bucket seven: least
--   total wanted, best total wanted, total returned, mint (units a Redis-only window starts with, else 0), member, total spent,
--   again (1: minted again where what was used of it is lost, as of a soft limit).
-- Reply: {status, epoch, watermark, the ledger's time in ms or 0, the ledger's generation as told here, the mark that every
--   shard was told, 1 where it is known to have gone back (2: more was claimed here than it has told), its id as told here, {granted
--   total, remaining, used, dry, returned total, lying} …}: status GRANT,
--   DRY (the ledger says exhausted), WAIT (funding is under way, or the window has not begun), LOST (of a window that an epoch
--   before this one may have minted nobody knows what is left: none until the next one begins), EPOCH (another is in force; no buckets follow), REG (not
--   registered; ditto) or CLOCK (the caller's time is further off than the bound; ditto).
--   remaining = free here + what the ledger could still fund, at most 2^53 - 1; dry = this bucket's ledger version, or '' ;
--   lying = what others have leased and, as they last told, not spent; 0 where nobody has told anything for so long that
--   whoever has it may be gone.
--include epoch_guard
--include ledger_guard
local lying_s = 10     -- units that lie unused for less go back by themselves
local bound_ms = 2000  -- docs/PROTOCOL.md, Clocks; core/ledger_clock.h has the same
local early_ms = 200   -- so long before it begins a window is minted at the most
local w = ledger_word(KEYS[9], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]))
local e, off = current_epoch(KEYS[1])
if w.short then e = 0 end
local time = redis.call('TIME')
local now = e > 0 and time[1] * 1000 + math.floor(time[2] / 1000) + off or 0
local watermark = tonumber(redis.call('HGET', KEYS[5], ARGV[2]) or '0')
if e ~= tonumber(ARGV[1]) then return {'EPOCH', e, watermark, now, w.gen, w.all, w.behind, w.id} end
local inc = ARGV[2]
-- A sign of life, which the operator looks for: heartbeats write it anew each so many seconds only.
local function sign()
  local at_s = tonumber(time[1])
  if math.abs(at_s - tonumber(redis.call('ZSCORE', KEYS[8], inc) or '0')) >= 20 then redis.call('ZADD', KEYS[8], at_s, inc) end
end
if redis.call('SISMEMBER', KEYS[2], inc) == 0 or redis.call('SISMEMBER', KEYS[3], inc) == 1 then
  sign()
  return {'REG', e, watermark, now, w.gen, w.all, w.behind, w.id}
end
local n = #KEYS - 9
local now_s = math.floor(now / 1000)
if n > 0 and math.abs(tonumber(ARGV[3]) - now) > bound_ms then return {'CLOCK', e, watermark, now, w.gen, w.all, w.behind, w.id} end
-- Of a limit the two latest windows that were minted stay known, whatever becomes of their buckets: none is minted twice.
local function minted(name)
  local a, b = string.match(redis.call('HGET', KEYS[7], name) or '-1 -1', '^(%S+) (%S+)$')
  return tonumber(a), tonumber(b)
end
local holders = math.max(1, redis.call('SCARD', KEYS[2]) - redis.call('SCARD', KEYS[3]))
local status, rank = 'GRANT', {GRANT = 0, WAIT = 1, LOST = 2, DRY = 3}
local plan, seen = {}, {}
-- Notes that this incarnation holds units of a bucket, until an hour after its window's end (a minute, for one that lives
-- here alone): then nobody has use for what would come back, and with a limit a second the set would grow for ever.
local function hold(member)
  local start, length = string.match(member, '@(%d+)%+(%d+)$')
  local until_s = 'inf'
  if start then until_s = tonumber(start) + tonumber(length) + (tonumber(length) < 3600 and 60 or 3600) end
  redis.call('ZADD', KEYS[6], until_s, member)
  redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', '(' .. now_s)
end
for i = 1, n do
  local key, at = KEYS[9 + i], 8 + (i - 1) * 7
  local lo, hi, ret, mint = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local h = redis.call('HMGET', key, 'f', 'free', 'avail', 'used', 'dry', 'low', 'kick', 'ro', 'g:' .. inc, 'r:' .. inc, 'need', 'want',
    's:' .. inc, 'lying', 'told')
  local p = {key = key, member = ARGV[at + 5], spent = tonumber(ARGV[at + 6]), said = h[13], lying = tonumber(h[14] or '0'),
    told = tonumber(h[15] or '0'), known = h[1], free = tonumber(h[2] or '0'), avail = tonumber(h[3] or '0'),
    used = tonumber(h[4] or '0'), dry = h[5] or '', low = tonumber(h[6] or '1'), kick = h[7], ro = h[8],
    granted = tonumber(h[9] or '0'), returned = tonumber(h[10] or '0'), asked = tonumber(h[11] or '0'), wanted = tonumber(h[12] or '0'), back = 0, mint = 0}
  if seen[key] then return redis.error_reply('ERR lease: a bucket is named twice') end
  seen[key] = true
  if not p.known and mint > 0 then
    local limit, start, length = string.match(p.member, '^(.*)@(%d+)%+(%d+)$')
    if not limit then return redis.error_reply('ERR lease: only a window can be minted') end
    p.limit, p.start, p.ro = limit .. '+' .. length, tonumber(start), '1'
    p.left = (p.start + tonumber(length)) * 1000 - now
    local a, b = minted(p.limit)
    local begins_ms = p.start * 1000 - now
    if p.left > -bound_ms and begins_ms <= bound_ms and p.start > b and p.start ~= a then
      local since = tonumber(redis.call('HGET', KEYS[1], 'since') or '0')
      p.none = begins_ms > early_ms and 'WAIT' or p.start * 1000 < since + early_ms and ARGV[at + 7] ~= '1' and since > 0 and 'LOST'
      if not p.none then p.mint, p.free = mint, mint end
    end
  end
  p.mine = p.said and math.max(0, p.granted - p.returned - tonumber(p.said)) or 0
  if h[9] and ret > p.returned and ret <= p.granted then p.back = ret - p.returned end
  local free = p.free + p.back
  local need = math.max(0, lo - p.granted)
  p.give = math.min(math.max(need, hi - p.granted), math.max(need, math.floor(free / (2 * holders))))
  if p.give < 0 then p.give = 0 end
  p.more = hi - p.granted
  if need > free then
    local answer = p.none or ((p.ro or p.dry ~= '') and 'DRY' or 'WAIT')
    if rank[answer] > rank[status] then status = answer end
    p.short = true
    -- The funder learns how much a single request needs, which may be more than it would keep here otherwise.
    if not p.ro and p.dry == '' and need > p.asked then p.need = need end
  end
  plan[i] = p
end
sign()
local reply = {status, e, watermark, now, w.gen, w.all, w.behind, w.id}
for i = 1, n do
  local p = plan[i]
  if status ~= 'GRANT' then p.give = 0 end
  local free = p.free + p.back - p.give
  if p.mint > 0 and p.give > 0 then
    redis.call('HSET', p.key, 'f', p.mint, 'rc', 0, 'free', p.mint, 'ro', 1)
    redis.call('PEXPIRE', p.key, p.left + 3600000)
    local a, b = minted(p.limit)
    redis.call('HSET', KEYS[7], p.limit, math.max(a, p.start) .. ' ' .. math.max(b, math.min(a, p.start)))
  end
  if p.back > 0 then redis.call('HSET', p.key, 'r:' .. inc, p.returned + p.back) end
  if p.give > 0 then
    redis.call('HSET', p.key, 'g:' .. inc, p.granted + p.give)
    hold(p.member)
  end
  if p.back > 0 or p.give > 0 then redis.call('HSET', p.key, 'free', free) end
  local others = math.max(0, p.lying - p.mine)
  if p.granted + p.give > 0 and (p.back > 0 or p.give > 0 or tonumber(p.said) ~= p.spent) then
    local mine = math.max(0, p.granted + p.give - p.returned - p.back - p.spent)
    redis.call('HSET', p.key, 's:' .. inc, p.spent, 'lying', others + mine, 'told', now_s)
  end
  if not p.ro and (p.give > 0 or p.short) then
    redis.call('ZADD', KEYS[4], now, p.member)
    if p.need then redis.call('HSET', p.key, 'need', p.need) end
    -- And how much would be taken at once.
    if p.more > p.wanted and p.more > free then redis.call('HSET', p.key, 'want', p.more) end
    if (free < p.low or p.short) and not p.kick and (p.dry == '' or p.give > 0) then
      redis.call('HSET', p.key, 'kick', 1)
      redis.call('PUBLISH', ARGV[4], ARGV[5] .. ' ' .. p.member)
    end
  end
  reply[#reply + 1] = {p.granted + p.give, math.min(free + p.avail, 9007199254740991), p.used, p.short and p.dry or '',
    p.returned + p.back, now_s - p.told <= lying_s and others or 0}
end
return reply
