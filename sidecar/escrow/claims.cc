#include "sidecar/escrow/claims.h"

#include "core/redis_contract/keys.h"
#include "sidecar/log/kept.h"

namespace tallygate::sidecar {

namespace rc = redis_contract;

namespace {
constexpr size_t kFieldsPerCall = 1000;
}

void Claims::Told::add(std::string field, int64_t value) {
  fields.push_back(std::move(field));
  fields.push_back(std::to_string(value));
}

void Claims::add_incarnation(Told& told, int shard, const Outbox& outbox, const Spent& ceilings) const {
  const auto queue = outbox.shards().find(shard);
  if (queue == outbox.shards().end()) return;
  told.add("l:" + outbox.incarnation(), queue->second.last_seq());
  for (const auto& [key, units] : ceilings) {
    const auto& [epoch, member] = key;
    if (epoch == 0 || rc::shard_of(std::string_view(member).substr(0, member.find('|'))) != shard) continue;
    told.add("c:" + std::to_string(epoch) + ":" + outbox.incarnation() + ":" + member, units);
  }
}

void Claims::tell(int shard) {
  Told told;
  Spent live = log_.admitted();
  escrow_.add_leased(shard, &live);
  add_incarnation(told, shard, log_.outbox(), live);
  handover_.each([&](const Predecessor& p) { add_incarnation(told, shard, p.outbox(), p.spent()); });
  for (const std::string& folder : folder_.kept()) {
    auto [entry, fresh] = kept_.try_emplace(folder);
    if (fresh) entry->second = last_kept(folder);
    const auto last = entry->second.find(shard);
    if (last != entry->second.end()) told.add("l:" + DataFolder::incarnation_of(folder), last->second);
  }
  for (size_t from = 0; from < told.fields.size(); from += kFieldsPerCall) {
    redis::Command command{"HSET", rc::claims_key(shard)};
    const size_t to = std::min(told.fields.size(), from + kFieldsPerCall);
    command.insert(command.end(), told.fields.begin() + static_cast<ptrdiff_t>(from),
                   told.fields.begin() + static_cast<ptrdiff_t>(to));
    redis_.call(std::move(command), [](Result<redis::Reply>) {});  // told again each second while it matters
  }
  redis_.call({"EXPIRE", rc::claims_key(shard), "3600"}, [](Result<redis::Reply>) {});  // no later recovery reads it
}

}  // namespace tallygate::sidecar
