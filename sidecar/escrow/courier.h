// Carries records to the shards' streams and keeps at it until the ledger's watermark has passed them (rule 10).
//
// Plain XADD, pipelined, in order of seq per incarnation and shard. That Redis took a record says nothing: it may forget.
// Only the watermark, computed in Postgres, ends a record's life here. Without progress for a while, or after a
// reconnect, everything behind the watermark is sent again; the ledger takes each seq once.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "sidecar/escrow/escrow.h"
#include "sidecar/log/outbox.h"

namespace tallygate::sidecar {

struct CourierCounters {
  std::atomic<uint64_t> sent{0}, resent{0}, failed{0}, acknowledged{0};
  std::atomic<uint64_t> unacknowledged{0};  // gauge
};

class Courier {
 public:
  Courier(EventLoop& loop, redis::Connection& redis, Escrow& escrow);
  ~Courier();
  void start();

  // The live incarnation's outbox: watermarks come with the leases.
  void add_live(Outbox* outbox, std::function<void()> on_acknowledged);
  // A predecessor's: asks for its watermarks itself. `on_empty` is called once, when everything is booked.
  void add_finished(Outbox* outbox, std::function<void()> on_empty);
  void remove(Outbox* outbox);

  // Sends what is new, now.
  void kick();
  const CourierCounters& counters() const { return counters_; }

 private:
  struct Route {  // of one shard of one outbox
    int64_t sent_seq = 0;
    int64_t watermark = 0;
    int64_t progress_ns = 0;
    int64_t patience_ns = 0;  // without progress for so long, everything is sent again; doubles each time
    int64_t asked_ns = 0;
    int64_t in_flight = 0;
  };
  struct Parcel {
    Outbox* outbox;
    bool live;
    std::function<void()> fn;
    std::map<int, Route> routes;
  };
  void tick();
  void carry(Parcel& parcel);
  void send(Parcel& parcel, int shard, Outbox::Shard& queue, Route& route);
  void ask(Parcel& parcel, int shard, Route& route);
  void acknowledged(Outbox* outbox, int shard, int64_t watermark);
  Parcel* find(const Outbox* outbox);

  EventLoop& loop_;
  redis::Connection& redis_;
  Escrow& escrow_;
  std::vector<std::unique_ptr<Parcel>> parcels_;
  bool was_connected_ = false;
  EventLoop::TimerId timer_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  CourierCounters counters_;
};

}  // namespace tallygate::sidecar
