#include "sidecar/escrow/claims.h"

#include "core/redis_contract/keys.h"
#include "sidecar/log/kept.h"

namespace tallygate::sidecar {

namespace rc = redis_contract;

namespace {
constexpr size_t kFieldsPerCall = 1000;
}

void Claims::add(int shard, std::string field, int64_t value) {
  auto& fields = round_[shard];
  fields.push_back(std::move(field));
  fields.push_back(std::to_string(value));
}

void Claims::add_incarnation(const Outbox& outbox, const Spent& ceilings) {
  for (const auto& [shard, queue] : outbox.shards()) add(shard, "l:" + outbox.incarnation(), queue.last_seq());
  for (const auto& [key, units] : ceilings) {
    const auto& [epoch, member] = key;
    if (epoch == 0) continue;
    add(rc::shard_of(std::string_view(member).substr(0, member.find('|'))),
        "c:" + std::to_string(epoch) + ":" + outbox.incarnation() + ":" + member, units);
  }
}

// All shards at once: what was admitted is summed up over everything that is in flight.
void Claims::begin_round() {
  told_.clear();
  round_.clear();
  Spent live = log_.admitted();
  escrow_.add_leased(&live);
  add_incarnation(log_.outbox(), live);
  handover_.each([&](const Predecessor& p) { add_incarnation(p.outbox(), p.spent()); });
  for (const std::string& folder : folder_.kept()) {
    const auto [entry, fresh] = kept_.try_emplace(folder);
    if (fresh) entry->second = last_kept(folder);
    for (const auto& [shard, last] : entry->second) add(shard, "l:" + DataFolder::incarnation_of(folder), last);
  }
}

void Claims::tell(int shard) {
  if (round_.empty() || told_.contains(shard)) begin_round();
  told_.insert(shard);
  const std::vector<std::string>& fields = round_[shard];
  for (size_t from = 0; from < fields.size(); from += kFieldsPerCall) {
    redis::Command command{"HSET", rc::claims_key(shard)};
    const size_t to = std::min(fields.size(), from + kFieldsPerCall);
    command.insert(command.end(), fields.begin() + static_cast<ptrdiff_t>(from),
                   fields.begin() + static_cast<ptrdiff_t>(to));
    redis_.call(std::move(command), [](Result<redis::Reply>) {});  // told again each second while it matters
  }
  if (fields.empty()) return;
  redis_.call({"EXPIRE", rc::claims_key(shard), "3600"}, [](Result<redis::Reply>) {});  // no later recovery reads it
}

}  // namespace tallygate::sidecar
