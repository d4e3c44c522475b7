-- Opens an epoch on this server. Sent once per number and never retried (rule 3). Of the windows that are now, and live in Redis
-- alone, nobody knows what an epoch before it has minted: they are `since` when it was opened, by the ledger's clock (lease.lua).
-- KEYS 1 epoch.  ARGV 1 number, 2 how many ms the ledger's clock is ahead of this server's; 0 where absent.  Reply: the number, or 0 where the server knows as high a number, or is a replica.
local info = redis.call('INFO', 'replication')
if not string.find(info, 'role:master', 1, true) then return 0 end
local known = tonumber(redis.call('HGET', KEYS[1], 'n') or '0')
local number = tonumber(ARGV[1])
if known >= number then return 0 end
local time = redis.call('TIME')
local since = number > 1 and string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2] or '0')) or '0'
redis.call('HSET', KEYS[1], 'n', ARGV[1],
  'run', string.match(redis.call('INFO', 'server'), 'run_id:(%x+)'),
  'repl', string.match(info, 'master_replid:(%x+)'), 'off', ARGV[2] or '0', 'since', since)
return number
