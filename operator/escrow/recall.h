// Takes float back from Redis, so that money on loan to one bucket can pay for something else of its wallet (DESIGN
// rule 12). The ledger names the targets; what Redis answers goes back to it.
#pragma once

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

// The same with a connection of its own. Any thread; one recall at a time, the others wait.
class Recaller {
 public:
  // Without an endpoint nothing can be recalled.
  Recaller(Env& env, std::optional<redis::Endpoint> endpoint);
  Result<std::string> recall(const std::string& tenant, std::string_view plan);
  bool possible() const { return client_ != nullptr; }

 private:
  std::mutex mutex_;
  std::unique_ptr<redis::Client> client_;
};

}  // namespace tallygate::escrow
