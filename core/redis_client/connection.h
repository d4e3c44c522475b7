// One connection to Redis on an event loop: pipelined, with deadlines, reconnecting with jittered backoff.
//
// A call's callback runs exactly once, in order of sending, never from inside call(): with the reply (which may be an
// error reply of Redis, see Reply::is_error), or with an Error: kUnavailable where the command was certainly not
// executed (never sent), kTimeout where nobody knows (sent, then the deadline passed or the connection broke). A
// deadline that passes on a sent command breaks the connection, since replies could no longer be matched; everything
// else in flight fails with it. While disconnected, call() fails at once: no queue grows during an outage.
//
// Codec: hiredis's redisReader. TLS: OpenSSL over memory buffers. AUTH and SELECT are sent first on each connection.
// Threading: the loop's thread only. Destruction drops pending callbacks without calling them; not from inside one.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "core/io/event_loop.h"
#include "core/redis_client/reply.h"
#include "core/redis_client/url.h"
#include "core/redis_contract/scripts.h"
#include "core/result.h"

namespace tallygate::redis {

struct ConnectionOptions {
  int64_t connect_timeout_ms = 1000;
  int64_t call_timeout_ms = 1000;
  int64_t backoff_min_ms = 20;
  int64_t backoff_max_ms = 1000;
  size_t max_pending = 100'000;  // calls in flight; past that call() fails with kExhausted
  // Of one reply; past it the connection is broken off. Of a subscription's message: 8 MiB.
  size_t reply_bytes_max = size_t{64} * 1024 * 1024;
};

class Connection {
 public:
  using Callback = std::function<void(Result<Reply>)>;

  Connection(EventLoop& loop, Endpoint endpoint, ConnectionOptions options = {});
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // From the next connection on. The one that is there stays as long as the server lets it.
  void set_login(std::string user, std::string password);
  // Connects and stays connected until stop(). Idempotent.
  void start();
  void stop();
  bool connected() const;
  // Why it is not connected, for people; empty when it is.
  const std::string& last_error() const;
  // Called on every change of connected().
  void on_change(std::function<void(bool connected)> fn);
  // Messages of subscribed channels (after SUBSCRIBE no other call than SUBSCRIBE works).
  void subscribe(std::vector<std::string> channels, std::function<void(std::string channel, std::string message)> fn);

  // Commands issued within one turn of the loop leave in one write.
  // `timeout_ms` 0: the options' call_timeout_ms.
  void call(const Command& command, Callback callback, int64_t timeout_ms = 0);
  // EVALSHA, and EVAL once where the server does not know the script yet: then after what was sent in the meantime.
  void eval(const redis_contract::Script& script, std::vector<std::string> keys, std::vector<std::string> args,
            Callback callback);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tallygate::redis
