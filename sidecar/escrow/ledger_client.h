// HTTP to the operator's POST /v1/leases, on the event loop: a few keep-alive connections, deadlines, backoff. A token
// file is read again when it changes.
//
// A call's callback runs exactly once, never from inside post(): with the body of a 200, or an Error; kTimeout where
// the call may have been carried out all the same, kInvalid where it was refused, and will be until somebody mends
// something. While the endpoint is known to be away post() fails at once: no
// queue grows during an outage. Threading: the loop's thread only.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/io/event_loop.h"
#include "core/redis_client/url.h"
#include "core/result.h"

namespace tallygate::sidecar {

struct LedgerEndpoint {
  redis::Endpoint address;
  std::string host;  // as the Host field has it
  std::string path;  // before /v1/leases; empty or "/…" without a slash at its end
  std::string token_file;
};

struct LedgerClientOptions {
  int64_t call_timeout_ms = 1000;  // waiting for a connection included
  int64_t backoff_min_ms = 50;
  int64_t backoff_max_ms = 2000;
  size_t connections_max = 4;
  size_t queue_max = 1000;
  size_t answer_bytes_max = 5u << 20;
};

class LedgerClient {
 public:
  using Callback = std::function<void(Result<std::string>)>;

  LedgerClient(EventLoop& loop, LedgerEndpoint endpoint, LedgerClientOptions options = {});
  ~LedgerClient();  // drops callbacks; not from inside one
  LedgerClient(const LedgerClient&) = delete;

  void post(const std::string& tenant, std::string body, Callback callback);
  // Not known to be away: a call has a chance.
  bool usable() const { return loop_.now_ns() >= away_until_ns_; }
  // The last call was answered, or there was none.
  bool answers() const { return backoff_ms_ == 0; }
  const std::string& last_error() const { return last_error_; }

 private:
  class Connection;
  struct Call {
    std::string tenant, body;
    Callback callback;
    int64_t deadline_ns;
  };
  void serve();
  void expire();
  void done(Call call, Result<std::string> result);
  void away(const std::string& why);
  Result<std::string> token();
  std::string request(const Call& call, const std::string& token) const;

  EventLoop& loop_;
  LedgerEndpoint endpoint_;
  LedgerClientOptions options_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::deque<Call> queue_;
  std::string token_, last_error_;
  int64_t token_stamp_ns_ = -1;  // of the file, as it was read
  int64_t away_until_ns_ = 0, backoff_ms_ = 0;
  int64_t answered_ns_ = 0;  // the last 200
  EventLoop::TimerId timer_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace tallygate::sidecar
