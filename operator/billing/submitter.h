// Aggregates to Stripe's meters, each exactly once.
//
// Each interval the aggregates that are new become rows of the outbox; rows that are due are claimed (marked as being
// sent, with a time until which nobody else takes them), sent, and recorded with their postings in one transaction.
// Whoever dies between the call and its record leaves a row that is sent again with the same identifier, which Stripe
// refuses as a duplicate, which counts as delivered. An identifier is only unique for a day: where the outcome of an
// attempt has not been known for longer, the event is put aside as dead instead, for people, since either choice may be
// wrong. So are events that are too old for Stripe.
//
// Stripe allows one call at a time per customer and meter: events of one key are sent one after the other, different
// keys by several threads at once, all under one rate. A refused key or a wrong address stops everything for a while,
// and no event is blamed for it.
//
// Threads: one that owns the connection to PostgreSQL, and `concurrency` that only call Stripe. stop() waits for calls
// under way, at most their time-out, records them and gives back what was claimed and not sent.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/env.h"
#include "core/io/event_loop.h"
#include "core/standing.h"
#include "core/telemetry/metrics.h"
#include "operator/billing/answer.h"
#include "operator/billing/meter_event.h"
#include "operator/billing/outbox.h"
#include "operator/billing/pace.h"

namespace tallygate::billing {

struct SubmitterOptions {
  int64_t interval_ms = 300'000;
  int64_t concurrency = 8;
  int64_t calls_per_second = 100;
  int64_t claim_lease_ms = 600'000;  // above the time-outs of a call and of those before it in its key's line
  int64_t claim_limit = 256;
  int64_t claim_per_key = 16;
  int64_t blocked_pause_ms = 30'000;
  BackoffOptions backoff = {};
};

// Calls Stripe once; any thread. `attempt` is part of the Idempotency-Key.
using SendEvent = std::function<Answer(const MeterEvent& event, int64_t attempt)>;

// What may be against an event although Stripe would take it (stripe_watch.h). Any thread.
class EventWatch {
 public:
  virtual ~EventWatch() = default;
  // Why it would be on no invoice; empty: nothing is known against it.
  virtual std::string look(const MeterEvent& event) = 0;
  // Stripe has taken it.
  virtual void taken(const MeterEvent& event) = 0;
  // Looks again, at most `limit` at a time, at what events were taken for; what may have been taken in vain, for
  // people.
  virtual std::vector<std::string> look_back(size_t limit) = 0;
};

// Why an event may not be sent (any more); empty: it may. Pure.
std::string refuse_to_send(const Submission& submission, int64_t now_s);

class Submitter {
 public:
  Submitter(Env& env, std::string database_url, SubmitterOptions options, SendEvent send,
            std::function<bool()> is_leader, metrics::Registry& registry, std::unique_ptr<EventWatch> watch = nullptr);
  ~Submitter();
  void start();
  void stop();

  // For /health. Any thread.
  struct Status {
    Backlog backlog;
    int64_t delivered = 0;  // since the start
    int64_t in_flight = 0;
    std::string blocked;  // why nothing is sent at present; empty: it is
    std::string doubtful;  // what would be, or may have been, on no invoice: the last, for a while; empty: nothing
  };
  Status status() const;
  // What the ledger keeps it from doing. Any thread.
  std::optional<Standing::Trouble> trouble() const;

 private:
  struct Finished {
    Submission submission;
    Decision decision;
    std::string refused;  // set: no call was made
    std::string held;     // set: no call was made, and it waits until that is mended
  };
  struct Metrics;

  void run();
  bool lead();
  void enqueue_due();
  void claim_due();
  void record_finished();
  Outcome outcome_of(const Finished& finished);
  void tell(const Finished& finished, const Outcome& outcome);
  void give_back_queued();
  void observe_backlog();
  void look_back();
  void doubt(std::string what);
  bool room() const;

  void send_loop();
  bool take(Submission& out);
  void pace();
  void finish(Finished finished);

  Env& env_;
  const SubmitterOptions options_;
  SendEvent send_;
  std::function<bool()> is_leader_;
  const std::unique_ptr<EventWatch> watch_;  // may be null
  ledger::Session session_;
  Outbox outbox_;
  EventLoop loop_;
  std::unique_ptr<Metrics> metrics_;
  Standing taking_over_{env_}, enqueueing_{env_}, claiming_{env_}, recording_{env_};
  std::atomic<bool> stopping_ = false;
  int64_t next_enqueue_ms_ = 0, next_claim_ms_ = 0, next_backlog_ms_ = 0, blocked_until_ms_ = 0;
  int64_t next_look_back_ms_ = 0, doubted_ms_ = 0;
  bool taken_over_ = false;
  std::vector<Outcome> unrecorded_;  // kept until PostgreSQL has them

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable work_;
  std::deque<Submission> queue_;
  std::set<std::string> busy_keys_;
  std::vector<Finished> finished_;
  RateLimit rate_;
  bool senders_stop_ = false;
  Status status_;

  std::thread thread_;
  std::vector<std::thread> senders_;
};

}  // namespace tallygate::billing
