#include "sidecar/escrow/courier.h"

#include <algorithm>

#include "core/counting.h"
#include "core/redis_contract/keys.h"

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

void Courier::add_live(Outbox* outbox, std::function<void()> on_acknowledged) {
  parcels_.push_back(std::make_unique<Parcel>(Parcel{outbox, true, std::move(on_acknowledged), {}}));
  escrow_.on_watermark([this, outbox](int shard, int64_t watermark) { acknowledged(outbox, shard, watermark); });
}

void Courier::add_finished(Outbox* outbox, std::function<void()> on_empty) {
  parcels_.push_back(std::make_unique<Parcel>(Parcel{outbox, false, std::move(on_empty), {}}));
}

void Courier::remove(Outbox* outbox) {
  std::erase_if(parcels_, [outbox](const auto& parcel) { return parcel->outbox == outbox; });
}

Courier::Parcel* Courier::find(const Outbox* outbox) {
  for (auto& parcel : parcels_) {
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
    if (!parcel->live && parcel->outbox->empty() && parcel->fn) done.push_back(std::exchange(parcel->fn, nullptr));
  }
  for (auto& fn : done) fn();
}

void Courier::carry(Parcel& parcel) {
  for (auto& [shard, queue] : parcel.outbox->shards()) {
    if (queue.unacked.empty()) continue;
    Route& route = parcel.routes[shard];
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
  if (parcel.live) {
    escrow_.epoch(shard);
    return escrow_.beat(shard);
  }
  escrow_.ask_watermark(shard, parcel.outbox->incarnation(),
                        [this, outbox = parcel.outbox, shard](int64_t watermark) { acknowledged(outbox, shard, watermark); });
}

void Courier::acknowledged(Outbox* outbox, int shard, int64_t watermark) {
  Parcel* parcel = find(outbox);
  if (parcel == nullptr) return;
  const size_t before = outbox->size();
  outbox->acknowledge(shard, watermark);
  if (outbox->size() == before) return;
  count(counters_.acknowledged, before - outbox->size());
  if (parcel->live && parcel->fn) parcel->fn();
}

}  // namespace tallygate::sidecar
