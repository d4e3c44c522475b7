#include "sidecar/escrow/courier.h"

#include <algorithm>

#include "core/counting.h"
#include "core/redis_contract/keys.h"
#include "core/telemetry/log.h"

namespace tallygate::sidecar {
namespace {

constexpr int64_t kTickMs = 50;
constexpr int64_t kPatienceNs = 2'000'000'000;
constexpr int64_t kMaxPatienceNs = 64'000'000'000;  // a ledger that is away must not fill Redis with copies
constexpr int64_t kAskWatermarkNs = 200'000'000;
constexpr int64_t kMaxInFlight = 512;  // per shard and incarnation

}  // namespace

Courier::Courier(EventLoop& loop, redis::Connection& redis, Escrow& escrow)
    : loop_(loop), redis_(redis), escrow_(escrow) {}

Courier::~Courier() {
  *alive_ = false;
  loop_.cancel(timer_);
}

void Courier::start() { tick(); }

void Courier::add_live(Outbox* outbox, std::string folder, std::function<void()> on_acknowledged) {
  parcels_.push_back(std::make_unique<Parcel>(
      Parcel{outbox, Kind::kLive, KeptRecords(std::move(folder)), std::move(on_acknowledged), {}}));
  escrow_.on_watermark([this, outbox](int shard, int64_t generation, int64_t watermark) {
    acknowledged(outbox, shard, generation, watermark);
  });
}

void Courier::add_finished(Outbox* outbox, std::string folder, std::function<void()> on_empty) {
  parcels_.push_back(std::make_unique<Parcel>(
      Parcel{outbox, Kind::kFinished, KeptRecords(std::move(folder)), std::move(on_empty), {}}));
}

void Courier::add_kept(Outbox* outbox, std::string folder, std::function<void()> on_empty) {
  parcels_.push_back(
      std::make_unique<Parcel>(Parcel{outbox, Kind::kKept, KeptRecords(std::move(folder)), std::move(on_empty), {}}));
}

void Courier::remove(Outbox* outbox) {
  std::erase_if(parcels_, [outbox](const auto& parcel) { return parcel->outbox == outbox; });
}

Courier::Parcel* Courier::find(const Outbox* outbox) const {
  for (const auto& parcel : parcels_) {
    if (parcel->outbox == outbox) return parcel.get();
  }
  return nullptr;
}

void Courier::tick() {
  timer_ = loop_.after_ms(kTickMs, [this] { tick(); });
  kick();
}

void Courier::kick() {
  const bool connected = redis_.connected();
  if (connected && !was_connected_) {
    // What was in flight when the connection broke may or may not have arrived.
    for (auto& parcel : parcels_) {
      for (auto& [shard, route] : parcel->routes) route.sent_seq = route.in_flight = route.patience_ns = 0;
    }
  }
  was_connected_ = connected;
  uint64_t left = 0;
  for (auto& parcel : parcels_) {
    left += parcel->outbox->size();
    if (connected) carry(*parcel);
  }
  counters_.unacknowledged.store(left, std::memory_order_relaxed);
  // A finished incarnation that owes nothing more: told outside of the walk, since the callback removes it.
  std::vector<std::function<void()>> done;
  for (auto& parcel : parcels_) {
    if (parcel->kind == Kind::kLive) continue;
    const bool was = std::exchange(parcel->finished, finished(*parcel));
    if (parcel->finished && !was) done.push_back(parcel->fn);
  }
  for (auto& fn : done) fn();
}

bool Courier::finished(const Outbox* outbox) const {
  const Parcel* parcel = find(outbox);
  return parcel != nullptr && finished(*parcel);
}

bool Courier::finished(const Parcel& parcel) const {
  if (!parcel.outbox->empty()) return false;
  return std::ranges::all_of(parcel.outbox->shards(), [&](const auto& shard) {
    const auto route = parcel.routes.find(shard.first);
    return route != parcel.routes.end() && route->second.heard_generation >= escrow_.ledger().generation;
  });
}

void Courier::carry(Parcel& parcel) {
  for (auto& [shard, queue] : parcel.outbox->shards()) {
    Route& route = parcel.routes[shard];
    if (route.first_seq > 0) tell_first(parcel, shard, route);
    if (parcel.kind != Kind::kLive && route.heard_generation < escrow_.ledger().generation) ask(parcel, shard, route);
    if (queue.unacked.empty()) continue;
    if (queue.watermark > route.watermark) {
      route.watermark = queue.watermark;
      route.patience_ns = 0;
    }
    if (route.patience_ns == 0) {  // progress, or a new connection
      route.progress_ns = loop_.now_ns();
      route.patience_ns = kPatienceNs;
    }
    if (route.sent_seq > queue.watermark && loop_.now_ns() - route.progress_ns > route.patience_ns) {
      count(counters_.resent, static_cast<uint64_t>(route.sent_seq - queue.watermark));
      route.sent_seq = queue.watermark;  // rule 10: from the watermark again
      route.progress_ns = loop_.now_ns();
      route.patience_ns = std::min(route.patience_ns * 2, kMaxPatienceNs);
    }
    send(parcel, shard, queue, route);
    ask(parcel, shard, route);
  }
}

void Courier::send(Parcel& parcel, int shard, Outbox::Shard& queue, Route& route) {
  route.sent_seq = std::max(route.sent_seq, queue.watermark);
  while (route.sent_seq < queue.last_seq() && route.in_flight < kMaxInFlight) {
    const auto index = static_cast<size_t>(route.sent_seq - queue.watermark);
    ++route.sent_seq;
    ++route.in_flight;
    redis_.call({"XADD", redis_contract::usage_key(shard), "*", "r", queue.unacked[index]},
                [this, alive = alive_, outbox = parcel.outbox, shard](Result<redis::Reply> reply) {
                  if (!*alive) return;
                  count(reply && !reply->is_error() ? counters_.sent : counters_.failed);
                  Parcel* parcel = find(outbox);
                  if (parcel == nullptr) return;
                  Route& route = parcel->routes[shard];
                  if (route.in_flight > 0) --route.in_flight;
                });
  }
}

// The live incarnation learns its watermark from leases and heartbeats; a heartbeat sooner than due while records wait.
void Courier::ask(Parcel& parcel, int shard, Route& route) {
  if (loop_.now_ns() - route.asked_ns < kAskWatermarkNs) return;
  route.asked_ns = loop_.now_ns();
  if (parcel.kind == Kind::kLive) {
    escrow_.epoch(shard);
    return escrow_.beat(shard);
  }
  escrow_.ask_watermark(shard, parcel.outbox->incarnation(),
                        [this, outbox = parcel.outbox, shard](int64_t generation, int64_t watermark) {
                          acknowledged(outbox, shard, generation, watermark);
                        });
}

// The ledger lacks records that an earlier generation had booked.
void Courier::reopen(Parcel& parcel, int shard, Outbox::Shard& queue, int64_t watermark) {
  auto records = parcel.kept.take(shard, watermark, queue.watermark);
  const int64_t lost = queue.watermark - watermark - static_cast<int64_t>(records.size());
  log::warn("the ledger was recovered from a backup: what it lacks is sent again",
            {{"incarnation", parcel.outbox->incarnation()},
             {"shard", shard},
             {"booked", watermark},
             {"records", records.size()},
             {"not_kept", lost}});
  count(counters_.reopened, records.size());
  parcel.outbox->reopen(shard, std::move(records));
  Route& route = parcel.routes[shard];
  route.sent_seq = route.watermark = queue.watermark;
  route.patience_ns = 0;
  route.first_seq = queue.watermark + 1;
}

// Whoever closes the gap must know what is never to come.
void Courier::tell_first(Parcel& parcel, int shard, Route& route) {
  const int64_t generation = parcel.outbox->shards().at(shard).generation;
  redis_.call({"HSET", redis_contract::claims_key(shard),
               redis_contract::first_claim(generation, parcel.outbox->incarnation()), std::to_string(route.first_seq)},
              [this, alive = alive_, outbox = parcel.outbox, shard,
               first = route.first_seq](const Result<redis::Reply>& reply) {
                Parcel* told = *alive && reply && !reply->is_error() ? find(outbox) : nullptr;
                if (told != nullptr && told->routes[shard].first_seq == first) told->routes[shard].first_seq = 0;
              });
}

void Courier::acknowledged(Outbox* outbox, int shard, int64_t generation, int64_t watermark) {
  Parcel* parcel = find(outbox);
  if (parcel == nullptr) return;
  const auto queue = outbox->shards().find(shard);
  if (queue == outbox->shards().end() || generation < queue->second.generation) return;
  parcel->routes[shard].heard_generation = generation;
  if (generation > std::exchange(queue->second.generation, generation) && watermark < queue->second.watermark)
    reopen(*parcel, shard, queue->second, watermark);
  if (parcel->kept.is_read() &&
      std::ranges::all_of(outbox->shards(), [&](const auto& s) { return s.second.generation >= generation; }))
    parcel->kept.clear();
  const size_t before = outbox->size();
  outbox->acknowledge(shard, watermark);
  if (outbox->size() == before) return;
  count(counters_.acknowledged, before - outbox->size());
  if (parcel->kind == Kind::kLive && parcel->fn) parcel->fn();
}

}  // namespace tallygate::sidecar
