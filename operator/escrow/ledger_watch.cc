#include "operator/escrow/ledger_watch.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/redis_contract/keys.h"
#include "core/redis_contract/scripts.h"
#include "core/telemetry/log.h"
#include "operator/escrow/outside.h"

namespace tallygate::escrow {
namespace {

using ledger::Mark;
using redis_contract::kShards;

constexpr int64_t kStep_ms = 1000;
// Sidecars say what they know once a second. An operator that has just started over a Redis that knows nothing waits
// for them: without that, a ledger restored while both were away would look like any other.
constexpr int64_t kHearing_ms = 2500;

std::string text_of(const Mark& mark) { return std::to_string(mark.generation) + "." + std::to_string(mark.mark); }

}  // namespace

void LedgerWatch::rest() {
  if (began_ms_ < 0) began_ms_ = env_.mono_ms();
  tended_generation_ = -1;
}

Result<LedgerView> LedgerWatch::look() {
  if (began_ms_ < 0) began_ms_ = env_.mono_ms();
  // Not before it was found to be in order: when the mark last went up says how old a backup is.
  const bool step = history_.is_compared() && env_.mono_ms() >= next_step_ms_;
  auto past = step ? store_.advance(history_.known()) : store_.look();
  if (!past) return tl::unexpected(past.error());
  if (step) next_step_ms_ = env_.mono_ms() + kStep_ms;
  if (Result<void> same = history_.read(*past); !same) return tl::unexpected(same.error());
  const Mark told = past->mark;
  const auto pulses = pulse(*past);
  if (!pulses) return tl::unexpected(pulses.error());
  LedgerView view;
  const std::vector<int> odd = odd_shards(*pulses, *past);
  if (is_foreign(*pulses, odd, past->id)) {
    view.in_order = false;
    return view;
  }
  // After what Redis said: whatever was told there had been committed here.
  auto numbers = epochs_.numbers();
  if (!numbers) return tl::unexpected(numbers.error());
  if (!odd.empty()) {
    if (Result<void> done = forget_ledger(redis_, odd); !done) return tl::unexpected(done.error());
    view.numbers = std::move(*numbers);
    for (int shard = 0; shard < kShards; ++shard) view.wait.insert(shard);
    return view;  // the next look tells them
  }
  auto why = what_is_known(*pulses, *numbers, *past);
  if (!why) return tl::unexpected(why.error());
  view.numbers = std::move(*numbers);
  history_.set_behind(*why);
  if (!why->empty()) {
    int64_t generation = std::max(history_.known(), past->mark).generation;
    for (const Pulse& p : *pulses) generation = std::max(generation, p.known.generation);
    if (Result<void> done = seal(*why, generation); !done) return tl::unexpected(done.error());
    view.in_order = false;
    return view;
  }
  std::vector<int> untold;
  for (int shard = 0; shard < kShards; ++shard) {
    if ((*pulses)[static_cast<size_t>(shard)].told_generation < past->mark.generation) untold.push_back(shard);
  }
  if (Result<void> done = tell(untold, *past); !done) return tl::unexpected(done.error());
  if (untold.empty()) told_all_ = told;
  if (Result<void> done = tend_gaps(past->mark); !done) return tl::unexpected(done.error());
  for (const auto& [shard, incarnation] : gaps_.incarnations) view.wait.insert(shard);
  if (hearing(view.numbers)) {
    for (int shard = 0; shard < kShards; ++shard) view.wait.insert(shard);
    return view;
  }
  history_.compared();
  return view;
}

Result<std::vector<LedgerWatch::Pulse>> LedgerWatch::pulse(const ledger::Past& past) {
  std::vector<redis::Client::Eval> calls;
  for (int shard = 0; shard < kShards; ++shard) {
    calls.push_back({&redis_contract::kPulse,
                     {redis_contract::epoch_key(shard), redis_contract::ledger_key(shard)},
                     {std::to_string(past.mark.generation), std::to_string(past.mark.mark),
                      std::to_string(told_all_.generation == past.mark.generation ? told_all_.mark : 0), past.id}});
  }
  std::vector<Pulse> pulses;
  for (auto& result : redis_.eval_all(std::move(calls))) {
    result = redis::Client::check(std::move(result));
    if (!result) return tl::unexpected(result.error());
    if (!result->is_array() || result->elements.size() != 7) return fail(Errc::kInternal, "pulse: an unknown answer");
    const auto at = [&](size_t i) { return result->elements[i].to_integer(); };
    pulses.push_back({at(0), at(1), {at(2), at(3)}, result->elements[5].text});
    // Only the first answer can tell, whatever fails after it: that look has told this shard itself.
    blank_ = blank_ || at(4) != 0;
    if (const std::string& odd = result->elements[6].text; !odd.empty()) {
      history_.refused_claim();
      static log::Throttle throttle(10);
      log::warn(throttle,
                "Redis was told more of this ledger than it can have said, or of another one: by a sidecar whose data "
                "folder has served another ledger or is damaged, or by somebody who may write there. It is not "
                "believed",
                {{"claim", odd}, {"ledger", past.id}});
    }
  }
  return pulses;
}

// Shards whose notes of the ledger no ledger has made: of another one, or further than this one can have gone.
std::vector<int> LedgerWatch::odd_shards(const std::vector<Pulse>& pulses, const ledger::Past& past) {
  std::vector<int> odd;
  for (size_t shard = 0; shard < pulses.size(); ++shard) {
    const Pulse& p = pulses[shard];
    const bool other = !p.id.empty() && p.id != past.id;
    if (other || !is_plausible(p.known, past.mark) || !is_plausible({p.told_generation, 0}, past.mark))
      odd.push_back(static_cast<int>(shard));
  }
  return odd;
}

// Whether Redis serves another ledger: two that publish and fund over each other would sell each other's quota. Where
// only some shards say odd things, and more of them know this one, somebody has written there: these are told anew.
bool LedgerWatch::is_foreign(const std::vector<Pulse>& pulses, const std::vector<int>& odd, const std::string& id) {
  const auto ours = std::ranges::count_if(pulses, [&](const Pulse& p) { return p.id == id; });
  const auto other = std::ranges::find_if(pulses, [&](const Pulse& p) { return !p.id.empty() && p.id != id; });
  static log::Throttle throttle(10);
  if (other == pulses.end() || ours > static_cast<int64_t>(odd.size())) {
    history_.set_foreign("");
    if (odd.empty()) return false;
    history_.refused_claim();
    log::error(
        throttle,
        "some shards of Redis say of the ledger what none has said: somebody has written there. They are told anew",
        {{"shards", odd.size()}, {"first", odd[0]}, {"ledger", id}});
    return false;
  }
  const std::string why = "this Redis serves another ledger (" + other->id + "; this one is " + id +
                          "): give each one its own, empty this one where that other one is no more, or, where this is "
                          "that ledger from before it had an id, run `tallygate-operator ledger recover --force`";
  history_.set_foreign(why);
  log::error(throttle, "nothing is leased, booked or submitted", {{"error", why}});
  return true;
}

// Why the ledger is behind; empty where it is not. `past` is read again before anything is said: others go on
// meanwhile.
Result<std::string> LedgerWatch::what_is_known(const std::vector<Pulse>& pulses,
                                               const std::vector<ledger::ShardEpoch>& numbers, ledger::Past& past) {
  if (!past.behind.empty()) return past.behind;
  Mark known = history_.known();
  std::string why;
  for (const ledger::ShardEpoch& e : numbers) {
    const Pulse& p = pulses[static_cast<size_t>(e.shard)];
    known = std::max(known, p.known);
    if (p.highest <= e.number) continue;
    why = "epoch " + std::to_string(p.highest) + " of shard " + std::to_string(e.shard) +
          " was in force, and the ledger knows " + std::to_string(e.number);
  }
  if (known > past.mark) {
    auto again = store_.look();
    if (!again) return tl::unexpected(again.error());
    past = std::move(*again);
    if (!past.behind.empty()) return past.behind;
    if (known > past.mark) why = "it was at mark " + text_of(known) + ", and is at " + text_of(past.mark);
  }
  if (why.empty()) return why;
  const auto news = store_.found_behind(why);
  if (!news) return tl::unexpected(news.error());
  return why;
}

Result<void> LedgerWatch::seal(const std::string& why, int64_t generation) {
  static log::Throttle throttle(10);
  log::error(
      throttle,
      "the ledger has gone back: it was restored from an older backup, or has lost commits. Nothing is leased, booked "
      "or submitted until `tallygate-operator ledger recover` has taken it back into service",
      {{"found", why}});
  return seal_all(redis_, generation);
}

Result<void> LedgerWatch::tell(const std::vector<int>& shards, const ledger::Past& past) {
  if (shards.empty()) return {};
  const auto members = store_.watermarks(shards);
  if (!members) return tl::unexpected(members.error());
  std::map<int, redis::Client::Eval> by_shard;
  for (const int shard : shards) {
    by_shard[shard] = {&redis_contract::kTell,
                       {redis_contract::ledger_key(shard), redis_contract::watermark_key(shard)},
                       {std::to_string(past.mark.generation), std::to_string(past.mark.mark), past.id}};
  }
  for (const ledger::MemberMark& m : *members) {
    auto& args = by_shard[m.shard].args;
    args.push_back(m.incarnation);
    args.push_back(std::to_string(m.watermark));
  }
  std::vector<redis::Client::Eval> calls;
  for (auto& [shard, call] : by_shard) calls.push_back(std::move(call));
  size_t refused = 0;
  for (auto& result : redis_.eval_all(std::move(calls))) {
    result = redis::Client::check(std::move(result));
    if (!result) return tl::unexpected(result.error());
    refused += result->to_integer() == 0 ? 1 : 0;
  }
  static log::Throttle throttle(10);
  if (refused > 0) {
    // What is more there comes with the next look, which finds this ledger behind.
    log::warn(throttle, "Redis does not take what a recovered ledger tells: more is known there",
              {{"generation", past.mark.generation}, {"shards", refused}});
    return {};
  }
  log::warn(throttle, "a recovered ledger is told to Redis",
            {{"generation", past.mark.generation}, {"shards", shards.size()}});
  return {};
}

// While gaps are open, and once after each recovery.
Result<void> LedgerWatch::tend_gaps(const Mark& mark) {
  if (tended_generation_ == mark.generation && !history_.filling()) return {};
  nlohmann::json first = nlohmann::json::object();
  std::vector<redis::Command> commands;
  for (const auto& [shard, incarnation] : gaps_.incarnations)
    commands.push_back(
        {"HGET", redis_contract::claims_key(shard), redis_contract::first_claim(mark.generation, incarnation)});
  const auto results = redis_.pipeline(commands);
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i]) return tl::unexpected(results[i].error());
    const auto& [shard, incarnation] = gaps_.incarnations[i];
    if (!results[i]->is_nil()) first[std::to_string(shard) + "/" + incarnation] = results[i]->to_integer();
  }
  auto gaps = store_.tend_gaps(first.dump());
  if (!gaps) return tl::unexpected(gaps.error());
  if (gaps->open == 0 && !gaps_.incarnations.empty())
    log::warn("no usage is missing any more", {{"records_lost", gaps->lost}});
  if (tended_generation_ != mark.generation) claims_left_ = true;
  gaps_ = std::move(*gaps);
  history_.set_gaps(gaps_);
  tended_generation_ = mark.generation;
  if (history_.filling() || !std::exchange(claims_left_, false)) return {};
  std::vector<redis::Command> deletions;
  for (int shard = 0; shard < kShards; ++shard) deletions.push_back({"DEL", redis_contract::claims_key(shard)});
  (void)redis_.pipeline(deletions);
  return {};
}

bool LedgerWatch::hearing(const std::vector<ledger::ShardEpoch>& numbers) {
  if (heard_) return false;
  const bool fresh = std::ranges::all_of(numbers, [](const auto& e) { return e.number == 0; });
  heard_ = fresh || !blank_ || env_.mono_ms() - began_ms_ >= kHearing_ms;
  return !heard_;
}

}  // namespace tallygate::escrow
