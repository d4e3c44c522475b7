-- Tries what operators ask of Redis, command by command, on a key that nobody else uses: what a server or its user does
-- not take is known before an epoch is spent on it.
-- KEYS 1 a key for this.  ARGV nothing, or 1 a channel.  Reply: nothing, or the first error.
local key = KEYS[1]
-- SET comes first of what writes: out of memory, a script that has written already may go on.
local calls = {
  {'TIME'}, {'INFO', 'replication'},
  {'SET', key, '1'}, {'GET', key}, {'EXISTS', key}, {'PEXPIRE', key, '10000'}, {'DEL', key},
  {'HSET', key, 'a', '1'}, {'HGET', key, 'a'}, {'HMGET', key, 'a'}, {'HGETALL', key}, {'HDEL', key, 'a'},
  {'SADD', key, 'a'}, {'SCARD', key}, {'SISMEMBER', key, 'a'}, {'DEL', key},
  {'ZADD', key, '1', 'a'}, {'ZSCORE', key, 'a'}, {'ZCARD', key}, {'ZRANGE', key, '0', '-1'},
  {'ZRANGEBYSCORE', key, '0', '1'}, {'ZREMRANGEBYSCORE', key, '0', '1'},
  {'XGROUP', 'CREATE', key, 'pump', '0', 'MKSTREAM'}, {'XREADGROUP', 'GROUP', 'pump', 'try', 'STREAMS', key, '>'},
  {'XACK', key, 'pump', '1-1'}, {'XDEL', key, '1-1'}, {'DEL', key},
}
if ARGV[1] then calls[#calls + 1] = {'PUBLISH', ARGV[1], ''} end
for _, call in ipairs(calls) do
  local answer = redis.pcall(unpack(call))
  if type(answer) == 'table' and answer.err then
    redis.pcall('DEL', key)
    return call[1] .. ': ' .. answer.err
  end
end
return false
