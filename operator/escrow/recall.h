// Takes float back from Redis, so that money on loan to one bucket can pay for something else of its wallet
// (rule 12). The ledger names the targets; what Redis answers goes back to it.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "core/env.h"
#include "core/redis_client/client.h"
#include "core/redis_client/url.h"
#include "core/result.h"

namespace tallygate::escrow {

// `plan`: [{"account", "shard", "epoch", "bucket", "target"}] as the ledger answered. Returns the totals for
// p_recalled: [{"account", "epoch", "total"}]; buckets of an epoch that has ended are left out.
Result<std::string> recall(redis::Client& redis, const std::string& tenant, std::string_view plan);

// The same with a connection of its own. Any thread; one recall at a time, the others wait, though not past their
// deadline. Once Redis has failed, nobody asks it for a second: with Redis away a request costs one time-out at most,
// however many there are.
class Recaller {
 public:
  // Without an endpoint nothing can be recalled.
  Recaller(Env& env, std::optional<redis::Endpoint> endpoint);
  // kUnavailable: Redis is away, or `until_ms` of the monotonic clock has passed.
  Result<std::string> recall(const std::string& tenant, std::string_view plan, int64_t until_ms);
  bool possible() const { return client_ != nullptr; }

 private:
  Env& env_;
  std::mutex mutex_;
  std::condition_variable turn_;
  bool busy_ = false;  // someone recalls; it alone uses the client
  int64_t away_until_ms_ = 0;
  std::unique_ptr<redis::Client> client_;
};

}  // namespace tallygate::escrow
