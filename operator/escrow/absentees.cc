#include "operator/escrow/absentees.h"

#include <algorithm>

#include "core/redis_contract/keys.h"
#include "core/redis_contract/scripts.h"
#include "core/telemetry/log.h"

namespace tallygate::escrow {
namespace {

using ledger::Absentee;
using ledger::HeardShard;
using redis::Client;

constexpr int64_t kSignEvery_s = 20;  // lease.lua renews a sign that is as old
constexpr int kMostPerRound = 100;

// Who gave a sign since the last round. Older signs than anybody looks for are removed.
Result<std::vector<HeardShard>> heard(Client& redis, std::span<const int64_t> current, int64_t round_ms) {
  const auto time = Client::check(redis.call({"TIME"}));
  if (!time) return tl::unexpected(time.error());
  if (time->elements.empty()) return fail(Errc::kInternal, "Redis does not tell the time");
  const int64_t since_s = time->elements[0].to_integer() - kSignEvery_s - (round_ms + 999) / 1000;
  std::vector<redis::Command> commands;
  std::vector<HeardShard> shards;
  for (size_t shard = 0; shard < current.size(); ++shard) {
    if (current[shard] == 0) continue;
    const std::string key = redis_contract::heard_key(static_cast<int>(shard));
    shards.push_back({static_cast<int>(shard), current[shard], {}});
    commands.push_back({"ZREMRANGEBYSCORE", key, "-inf", "(" + std::to_string(since_s)});
    commands.push_back({"ZRANGE", key, "0", "-1"});
  }
  auto replies = redis.pipeline(commands);
  for (size_t i = 0; i < shards.size(); ++i) {
    auto members = Client::check(std::move(replies[2 * i + 1]));
    if (!members) return tl::unexpected(members.error());
    for (auto& member : members->elements) shards[i].incarnations.push_back(std::move(member.text));
  }
  return shards;
}

// What a closed incarnation holds of wallets under this epoch: leased less returned.
Result<std::vector<ledger::HeldUnits>> held_of(Client& redis, const Absentee& gone) {
  namespace rc = redis_contract;
  const auto members = Client::check(redis.eval(rc::kClose,
                                                {rc::epoch_key(gone.shard), rc::closed_key(gone.shard, gone.epoch),
                                                 rc::held_key(gone.shard, gone.epoch, gone.incarnation)},
                                                {std::to_string(gone.epoch), gone.incarnation}));
  if (!members) return tl::unexpected(members.error());
  std::vector<ledger::HeldUnits> held;
  std::vector<redis::Command> commands;
  for (const auto& member : members->elements) {
    const size_t bar = member.text.find('|');
    if (bar == std::string::npos || !member.text.ends_with('$')) continue;
    const std::string key =
        rc::bucket_key(gone.shard, gone.epoch, member.text.substr(0, bar), member.text.substr(bar + 1));
    held.push_back({member.text, 0});
    commands.push_back({"HMGET", key, "g:" + gone.incarnation, "r:" + gone.incarnation});
  }
  auto replies = redis.pipeline(commands);
  for (size_t i = 0; i < held.size(); ++i) {
    const auto totals = Client::check(std::move(replies[i]));
    if (!totals) return tl::unexpected(totals.error());
    if (totals->elements.size() != 2) continue;
    held[i].units = std::max<int64_t>(0, totals->elements[0].to_integer() - totals->elements[1].to_integer());
  }
  return held;
}

// The ledger first, so that the audit knows whatever comes back; each step may be repeated.
Result<void> write_off(ledger::EscrowStore& store, Client& redis, const Absentee& gone) {
  namespace rc = redis_contract;
  const auto held = held_of(redis, gone);
  if (!held) return tl::unexpected(held.error());
  const auto written = store.write_off(gone, *held);
  if (!written) return tl::unexpected(written.error());
  std::vector<std::string> keys{rc::epoch_key(gone.shard), rc::closed_key(gone.shard, gone.epoch)};
  std::vector<std::string> args{std::to_string(gone.epoch), gone.incarnation};
  for (const ledger::WrittenOff& one : *written) {
    keys.push_back(rc::bucket_key(gone.shard, gone.epoch, one.tenant, one.bucket));
    args.push_back(std::to_string(one.spent));
    if (one.units == 0) continue;
    log::warn("a sidecar is gone: what it held of a wallet is written off", {{"tenant", one.tenant},
                                                                             {"bucket", one.bucket},
                                                                             {"epoch", gone.epoch},
                                                                             {"units", one.units},
                                                                             {"incarnation", gone.incarnation}});
  }
  const auto returned = Client::check(redis.eval(rc::kGiveBack, std::move(keys), std::move(args)));
  if (!returned) return tl::unexpected(returned.error());
  if (!returned->is_integer()) return {};  // the epoch is over: that writes off the rest, in its time
  return store.written_off(gone);
}

}  // namespace

Result<AbsenteesFound> find_absentees(ledger::EscrowStore& store, Client& redis, std::span<const int64_t> current,
                                      int64_t round_ms, int rounds) {
  const auto shards = heard(redis, current, round_ms);
  if (!shards) return tl::unexpected(shards.error());
  const auto absentees = store.absentees(*shards, rounds, kMostPerRound);
  if (!absentees) return tl::unexpected(absentees.error());
  AbsenteesFound found;
  for (const Absentee& one : *absentees) {
    if (one.back) {
      log::warn("a sidecar that was declared gone is back: its shard gets a new epoch",
                {{"shard", one.shard}, {"incarnation", one.incarnation}});
      found.to_reopen.push_back({one.shard, one.epoch});
      continue;
    }
    if (Result<void> done = write_off(store, redis, one); !done) return tl::unexpected(done.error());
    ++found.written_off;
  }
  return found;
}

}  // namespace tallygate::escrow
