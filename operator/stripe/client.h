// Calls of Stripe's API over the outbound HTTP port, with the one version, under a rate of our own, and repeated as Stripe
// says: stripe-should-retry where it is there, else after connection errors, 409, 429 and 5xx. A POST bears an
// Idempotency-Key of the caller's, which keeps it for as long as it may repeat the call (Stripe: a day).
//
// Errors: kUnavailable (away, too busy, or it refuses our key: nothing that the request is to blame for), kTimeout
// (nobody knows whether it did it: repeat with the same key), kInternal (Stripe failed inside: it may have done it, and
// says the same for a day under that key). What Stripe refuses for good is a Reply.
// Threading: any thread; calls block. `http` and `env` outlive it.
#pragma once

#include <cstdint>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/env.h"
#include "core/result.h"
#include "core/telemetry/metrics.h"
#include "operator/billing/pace.h"

namespace tallygate {
class HttpClient;
struct HttpRequest;
}  // namespace tallygate

namespace tallygate::stripe {

struct ClientOptions {
  std::string api_base;  // "https://api.stripe.com", without a slash at the end
  std::string api_key;   // never logged
  int64_t timeout_ms = 10'000;  // of one call
  int64_t calls_per_second = 25;
  int attempts_max = 3;
  int64_t retry_base_ms = 200;
};

struct Reply {
  int status = 0;
  std::string body;           // JSON
  std::string code, message;  // of Stripe's error; for people and logs
  bool ok() const { return status >= 200 && status < 300; }
};

using Form = std::vector<std::pair<std::string, std::string>>;  // names as Stripe has them: "metadata[tenant]"
std::string encode(const Form& form);

class Client {
 public:
  Client(Env& env, HttpClient& http, ClientOptions options, metrics::Registry& registry);
  // `path` begins with a slash and may have a query. All attempts end by `until_ms`, of the monotonic clock.
  Result<Reply> get(const std::string& path, int64_t until_ms);
  Result<Reply> post(const std::string& path, const Form& form, const std::string& idempotency_key, int64_t until_ms);
  // For callers that have no deadline of their own.
  int64_t latest_ms() const { return env_.mono_ms() + 3 * options_.timeout_ms; }
  // Calls under way end soon, later ones at once. For good.
  void stop() { stop_.request_stop(); }

 private:
  Result<Reply> send(HttpRequest request, int64_t until_ms);
  Result<Reply> attempt(HttpRequest& request, int64_t until_ms, bool& again, int64_t& wait_ms);
  bool take_turn(int64_t until_ms);
  bool pause(int64_t ms, int64_t until_ms);

  Env& env_;
  HttpClient& http_;
  const ClientOptions options_;
  std::stop_source stop_;
  std::mutex mutex_;
  billing::RateLimit rate_;  // guarded by mutex_
  metrics::Counter answered_, refused_, failed_;
  metrics::Histogram seconds_;
};

}  // namespace tallygate::stripe
