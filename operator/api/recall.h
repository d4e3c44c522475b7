// Takes float back from Redis, so that money handed out for sidecars can pay for an API's operation (DESIGN rule 12).
// The ledger names the targets; what Redis answers goes back to it with the same operation, in one transaction.
//
// Any thread; one recall at a time, the others wait.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "core/env.h"
#include "core/redis_client/url.h"
#include "core/result.h"

namespace tallygate::api {

class Recaller {
 public:
  // Without an endpoint nothing can be recalled.
  Recaller(Env& env, std::optional<redis::Endpoint> endpoint);
  ~Recaller();
  // `targets`: [{"account", "shard", "epoch", "bucket", "target"}] as the ledger answered. Returns the totals for
  // p_recalled: [{"account", "epoch", "total"}]; buckets of an epoch that has ended are left out.
  Result<std::string> recall(const std::string& tenant, std::string_view targets);
  bool possible() const { return client_ != nullptr; }

 private:
  struct Client;
  std::mutex mutex_;
  std::unique_ptr<Client> client_;
};

}  // namespace tallygate::api
