#include "sidecar/escrow/handover.h"

#include "core/money.h"
#include "core/redis_contract/keys.h"
#include "core/redis_contract/scripts.h"
#include "sidecar/log/kept.h"

namespace tallygate::sidecar {

namespace rc = redis_contract;

namespace {

constexpr size_t kSliceBuckets = 500;
constexpr int64_t kAskAgainMs = 200;
constexpr int64_t kAwaitMs = 5;

}  // namespace

Handover::Handover(EventLoop& loop, redis::Connection& redis, Escrow& escrow, Courier& courier, LedgerLeases* ledger)
    : loop_(loop), redis_(redis), escrow_(escrow), courier_(courier), ledger_(ledger) {}

Handover::~Handover() { *alive_ = false; }

Handover::Estate* Handover::find(const Predecessor* predecessor) {
  for (auto& estate : estates_) {
    if (estate->predecessor.get() == predecessor) return estate.get();
  }
  return nullptr;
}

Handover::Estate* Handover::find(const std::string& incarnation) {
  for (auto& estate : estates_) {
    if (estate->predecessor->incarnation() == incarnation) return estate.get();
  }
  return nullptr;
}

size_t Handover::returning() const {
  size_t n = 0;
  for (const auto& estate : estates_) n += estate->returned ? 0 : 1;
  return n;
}

void Handover::each(const std::function<void(const Predecessor&)>& fn) const {
  for (const auto& estate : estates_) fn(*estate->predecessor);
}

void Handover::resend(const std::vector<std::string>& kept_folders, std::function<void()> done) {
  for (const auto& outbox : resending_) courier_.remove(outbox.get());  // for a generation before
  resending_.clear();
  auto left = std::make_shared<size_t>(1);
  auto one_done = [left, done = std::move(done)] {
    if (--*left == 0) done();
  };
  for (const std::string& folder : kept_folders) {
    auto outbox = std::make_unique<Outbox>(DataFolder::incarnation_of(folder));
    for (const auto& [shard, last] : last_kept(folder)) outbox->shard(shard).watermark = last;
    ++*left;
    courier_.add_kept(outbox.get(), folder, one_done);
    resending_.push_back(std::move(outbox));
  }
  loop_.defer(std::move(one_done));
}

void Handover::take(std::unique_ptr<Predecessor> owned) {
  Predecessor* predecessor = owned.get();
  estates_.push_back(std::make_unique<Estate>(Estate{std::move(owned), false, {}}));
  Estate* estate = estates_.back().get();
  if (predecessor->torn()) {
    estate->returned = estate->checked = true;  // what it spent is not known: its units stay held
    return send(predecessor);
  }
  std::vector<int> shards;
  for (const auto& [shard, queue] : predecessor->outbox().shards()) shards.push_back(shard);
  estate->unheard = {shards.begin(), shards.end()};
  // What the ledger has lent goes back at once, Redis or not; what Redis has lent once it is known that the log is
  // whole.
  give_back(predecessor->incarnation(), {predecessor->spent(), predecessor->forgotten_until_s()},
            LedgerLeases::read_notes(predecessor->folder()), std::move(shards), [this, predecessor] {
              if (Estate* e = find(predecessor)) e->returned = true;
              finish(predecessor);
            });
  hear_booked(predecessor);
}

void Handover::send(Predecessor* predecessor) {
  courier_.add_finished(&predecessor->outbox(), predecessor->folder(), [this, predecessor] { finish(predecessor); });
}

// Until it is known of every shard how much is booked: before anything of it is sent, which would be booked as well.
void Handover::hear_booked(Predecessor* predecessor) {
  const Estate* estate = find(predecessor);
  if (estate == nullptr || estate->checked) return;
  if (estate->unheard.empty()) return heard_booked(predecessor);
  const bool connected = redis_.connected();
  for (const int shard : std::set(connected ? estate->unheard : std::set<int>{})) {
    escrow_.ask_watermark(shard, predecessor->incarnation(), [this, predecessor, shard](int64_t, int64_t watermark) {
      Estate* heard = find(predecessor);
      if (heard == nullptr || heard->unheard.erase(shard) == 0) return;
      if (watermark > predecessor->written(shard)) heard->outdated = true;
      if (heard->unheard.empty()) heard_booked(predecessor);
    });
  }
  loop_.after_ms(connected ? kAskAgainMs : kAwaitMs, [this, alive = alive_, predecessor] {
    if (*alive) hear_booked(predecessor);
  });
}

void Handover::heard_booked(Predecessor* predecessor) {
  Estate* estate = find(predecessor);
  if (estate == nullptr || estate->checked) return;
  if (estate->outdated && on_outdated_ && !on_outdated_(*predecessor)) {
    loop_.after_ms(kAskAgainMs, [this, alive = alive_, predecessor] {
      if (*alive) heard_booked(predecessor);
    });
    return;
  }
  estate->checked = true;
  if (!estate->outdated) return send(predecessor);
  outdated_.insert(predecessor->incarnation());
  estate->returned = true;
  finish(predecessor);
}

void Handover::finish(Predecessor* predecessor) {
  Estate* estate = find(predecessor);
  if (estate == nullptr || !estate->checked || !estate->returned) return;
  if (!estate->outdated && !courier_.finished(&predecessor->outbox())) return;
  courier_.remove(&predecessor->outbox());
  if (keep_)
    DataFolder::keep(predecessor->folder());
  else
    DataFolder::remove(predecessor->folder());
  std::erase_if(estates_, [predecessor](const auto& e) { return e->predecessor.get() == predecessor; });
}

int64_t Spending::most(const std::pair<int64_t, std::string>& key) const {
  if (window_end_s(key.second) <= forgotten_until_s) return kMaxInteger;
  const auto found = spent.find(key);
  return found == spent.end() ? 0 : found->second;
}

// What was spent counts against the ledger's lease first: only then is it known what Redis's units paid for. Redis is
// told at once of all that was spent, as if it had paid for everything, and again of what it did pay for.
void Handover::give_back(const std::string& incarnation, Spending spending, const std::set<LeaseNote>& notes,
                         std::vector<int> shards, std::function<void()> done) {
  if (ledger_ == nullptr || notes.empty()) return give_back_to_redis(incarnation, spending, shards, std::move(done));
  give_back_to_redis(incarnation, spending, shards, [] {});
  struct Settling {
    Spending spending;
    size_t left;
  };
  auto settling = std::make_shared<Settling>(Settling{std::move(spending), notes.size()});
  for (const LeaseNote& note : notes) {
    ledger_->close(incarnation, note, settling->spending.most(note),
                   [this, alive = alive_, incarnation, note, settling, shards, done](int64_t absorbed) {
                     if (!*alive) return;
                     if (absorbed > 0) settling->spending.spent[note] -= absorbed;
                     if (--settling->left == 0) give_back_to_redis(incarnation, settling->spending, shards, done);
                   });
  }
}

void Handover::give_back_to_redis(const std::string& incarnation, const Spending& spending,
                                  const std::vector<int>& shards, std::function<void()> done) {
  if (shards.empty()) {
    loop_.defer(std::move(done));
    return;
  }
  auto left = std::make_shared<size_t>(shards.size());
  auto one_done = [left, done = std::move(done)] {
    if (--*left == 0) done();
  };
  for (const int shard : shards) {
    step(std::make_shared<Return>(Return{incarnation, spending, shard, one_done}));
  }
}

void Handover::again(std::shared_ptr<Return> r, int64_t after_ms) {
  loop_.after_ms(after_ms, [this, alive = alive_, r] {
    if (*alive) step(r);
  });
}

// First closed, so that nothing more can be leased in its name; then what it held is known and final.
void Handover::step(std::shared_ptr<Return> r) {
  if (outdated_.contains(r->incarnation)) return;  // nothing of it goes back
  if (const Estate* estate = find(r->incarnation); estate != nullptr && !estate->checked) return again(r, kAwaitMs);
  const int64_t epoch = escrow_.epoch(r->shard);
  if (epoch == 0 || !redis_.connected()) return again(r, 10);
  redis_.eval(rc::kClose,
              {rc::epoch_key(r->shard), rc::closed_key(r->shard, epoch), rc::held_key(r->shard, epoch, r->incarnation)},
              {std::to_string(epoch), r->incarnation}, [this, alive = alive_, r, epoch](Result<redis::Reply> reply) {
                if (!*alive) return;
                if (!reply || !reply->is_array()) {
                  escrow_.beat(r->shard);
                  return again(r);
                }
                give_slice(r, epoch, std::make_shared<const redis::Reply>(std::move(*reply)), 0);
              });
}

// Slices, for a script keeps everybody else from Redis while it runs.
void Handover::give_slice(std::shared_ptr<Return> r, int64_t epoch, std::shared_ptr<const redis::Reply> members,
                          size_t from) {
  const size_t to = std::min(members->elements.size(), from + kSliceBuckets);
  std::vector<std::string> keys{rc::epoch_key(r->shard), rc::closed_key(r->shard, epoch)};
  std::vector<std::string> args{std::to_string(epoch), r->incarnation};
  for (size_t i = from; i < to; ++i) {
    const std::string& member = members->elements[i].text;
    const size_t bar = member.find('|');
    if (bar == std::string::npos) continue;
    keys.push_back(rc::bucket_key(r->shard, epoch, member.substr(0, bar), member.substr(bar + 1)));
    args.push_back(std::to_string(r->spending.most({epoch, member})));
  }
  if (from == to) return r->done();
  redis_.eval(rc::kGiveBack, std::move(keys), std::move(args),
              [this, alive = alive_, r, epoch, members, to](Result<redis::Reply> reply) {
                if (!*alive) return;
                if (!reply || !reply->is_integer()) return again(r);
                give_slice(r, epoch, members, to);
              });
}

}  // namespace tallygate::sidecar
