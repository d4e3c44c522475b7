-- Opens an epoch on this server. Sent once per number and never retried (rule 3).
-- KEYS 1 epoch.  ARGV 1 number, 2 how many ms the ledger's clock is ahead of this server's; 0 where absent.  Reply: the number, or 0 where the server knows as high a number, or is a replica.
local info = redis.call('INFO', 'replication')
if not string.find(info, 'role:master', 1, true) then return 0 end
local known = tonumber(redis.call('HGET', KEYS[1], 'n') or '0')
local number = tonumber(ARGV[1])
if known >= number then return 0 end
redis.call('HSET', KEYS[1], 'n', ARGV[1],
  'run', string.match(redis.call('INFO', 'server'), 'run_id:(%x+)'),
  'repl', string.match(info, 'master_replid:(%x+)'), 'off', ARGV[2] or '0')
return number
