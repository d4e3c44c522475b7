// Carries records to the shards' streams and keeps at it until the ledger's watermark has passed them (rule 10).
//
// Plain XADD, pipelined, in order of seq per incarnation and shard. That Redis took a record says nothing: it may
// forget. Only the watermark, computed in Postgres, ends a record's life here. Without progress for a while, or after a
// reconnect, everything behind the watermark is sent again; the ledger takes each seq once. A ledger that was recovered
// from a backup has a newer generation and may have lower watermarks: what it lacks is read from the folder and sent
// again.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "sidecar/escrow/escrow.h"
#include "sidecar/log/kept.h"
#include "sidecar/log/outbox.h"

namespace tallygate::sidecar {

struct CourierCounters {
  std::atomic<uint64_t> sent{0}, resent{0}, failed{0}, acknowledged{0};
  std::atomic<uint64_t> reopened{0};        // booked once, and sent again to a recovered ledger
  std::atomic<uint64_t> unacknowledged{0};  // gauge
};

class Courier {
 public:
  Courier(EventLoop& loop, redis::Connection& redis, Escrow& escrow);
  ~Courier();
  void start();

  // The live incarnation's outbox: watermarks come with the leases.
  void add_live(Outbox* outbox, std::string folder, std::function<void()> on_acknowledged);
  // A predecessor's: asks for its watermarks itself. `on_empty` is called once, when everything is booked.
  void add_finished(Outbox* outbox, std::string folder, std::function<void()> on_empty);
  // One whose records were booked by an earlier generation of the ledger, as far as they are kept: sends nothing before
  // it has heard what this one has booked.
  void add_kept(Outbox* outbox, std::string folder, std::function<void()> on_empty);
  void remove(Outbox* outbox);
  // Everything of it is booked, by the ledger as it is now: not any more when one that was recovered lacks some.
  bool finished(const Outbox* outbox) const;

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
    int64_t heard_generation = -1;  // of the ledger that last told what it has booked
    int64_t first_seq = 0;          // the first that can still be sent, where that is to be told; else 0
  };
  enum class Kind : uint8_t { kLive, kFinished, kKept };
  struct Parcel {
    Outbox* outbox;
    Kind kind;
    KeptRecords kept;  // what is booked of it, in its folder
    std::function<void()> fn;
    std::map<int, Route> routes;
    bool finished = false;  // as was told last
  };
  void tick();
  void carry(Parcel& parcel);
  void send(Parcel& parcel, int shard, Outbox::Shard& queue, Route& route);
  void ask(Parcel& parcel, int shard, Route& route);
  void acknowledged(Outbox* outbox, int shard, int64_t generation, int64_t watermark);
  void reopen(Parcel& parcel, int shard, Outbox::Shard& queue, int64_t watermark);
  void tell_first(Parcel& parcel, int shard, Route& route);
  bool finished(const Parcel& parcel) const;
  Parcel* find(const Outbox* outbox) const;

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
