-- The epoch that this server may act under, or 0: an epoch belongs to one server run id and replication id. A restarted
-- server has another run id, a promoted replica another replication id; on a replica nothing is acted on at all.
-- After it how many ms the ledger's clock is ahead of this server's, as the operator has found (renew.lua).
local function current_epoch(key)
  local e = redis.call('HMGET', key, 'n', 'run', 'repl', 'off')
  if not e[1] then return 0, 0 end
  local info = redis.call('INFO', 'replication')
  if not string.find(info, 'role:master', 1, true) then return 0, 0 end
  if string.match(info, 'master_replid:(%x+)') ~= e[3] then return 0, 0 end
  if string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') ~= e[2] then return 0, 0 end
  return tonumber(e[1]), tonumber(e[4] or '0')
end
