#include "operator/escrow/recall.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "core/redis_contract/keys.h"
#include "core/redis_contract/scripts.h"

namespace tallygate::escrow {
namespace {
constexpr int64_t kAwayMs = 1'000;
}  // namespace

Result<std::string> recall(redis::Client& redis, const std::string& tenant, std::string_view plan) {
  struct Target {
    int64_t account, epoch;
  };
  std::vector<Target> wanted;
  std::vector<redis::Client::Eval> evals;
  try {
    for (const auto& one : nlohmann::json::parse(plan)) {
      const int shard = one.at("shard").get<int>();
      const auto epoch = one.at("epoch").get<int64_t>();
      wanted.push_back({one.at("account").get<int64_t>(), epoch});
      evals.push_back({&redis_contract::kRecall,
                       {redis_contract::epoch_key(shard),
                        redis_contract::bucket_key(shard, epoch, tenant, one.at("bucket").get<std::string>())},
                       {std::to_string(epoch), std::to_string(one.at("target").get<int64_t>())}});
    }
  } catch (const nlohmann::json::exception& e) {
    return fail(Errc::kInternal, std::string("the ledger's recall cannot be read: ") + e.what());
  }
  const auto replies = redis.eval_all(std::move(evals));
  auto totals = nlohmann::json::array();
  for (size_t i = 0; i < replies.size(); ++i) {
    if (!replies[i]) return tl::unexpected(replies[i].error());
    if (!replies[i]->is_integer()) continue;  // EPOCH
    totals.push_back({{"account", wanted[i].account}, {"epoch", wanted[i].epoch}, {"total", replies[i]->integer}});
  }
  return totals.dump();
}

Recaller::Recaller(Env& env, std::optional<redis::Endpoint> endpoint) : env_(env) {
  if (endpoint) client_ = std::make_unique<redis::Client>(env, std::move(*endpoint));
}

Result<std::string> Recaller::recall(const std::string& tenant, std::string_view plan, int64_t until_ms) {
  if (!client_) return fail(Errc::kUnavailable, "there is no Redis to recall from");
  std::unique_lock lock(mutex_);
  const auto wait = std::chrono::milliseconds(std::max<int64_t>(0, until_ms - env_.mono_ms()));
  if (!turn_.wait_for(lock, wait, [this] { return !busy_; })) {
    return fail(Errc::kUnavailable, "others recall, for longer than the request may take");
  }
  if (env_.mono_ms() < away_until_ms_) {
    turn_.notify_one();  // the next one's, too
    return fail(Errc::kUnavailable, "Redis did not answer a moment ago");
  }
  busy_ = true;
  lock.unlock();
  auto totals = escrow::recall(*client_, tenant, plan);
  lock.lock();
  busy_ = false;
  if (!totals) away_until_ms_ = env_.mono_ms() + kAwayMs;
  turn_.notify_one();
  return totals;
}

}  // namespace tallygate::escrow
