// The outbox of meter events in PostgreSQL (migration 0010), typed. Threading: one thread at a time.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/env.h"
#include "operator/billing/meter_event.h"
#include "operator/ledger/session.h"

namespace tallygate::billing {

// One row that is to be sent.
struct Submission {
  int64_t id = 0;
  std::string tenant;
  MeterEvent event;
  int64_t attempts = 1;         // this one included
  int64_t unknown_since_s = 0;  // of the first attempt whose outcome nobody knows; 0: none
};

// What became of one.
struct Outcome {
  enum class State : uint8_t { kDelivered, kPending, kDead, kHeld };
  int64_t id = 0;
  State state = State::kPending;
  std::string error;
  bool outcome_unknown = false;
  bool sent = true;             // false: given back without a call
  int64_t next_attempt_ms = 0;  // Unix time
};

struct Enqueued {
  int64_t taken = 0;  // aggregates looked at
  int64_t held = 0;   // of these, set aside until their tenant can be billed
};

struct Backlog {
  int64_t waiting = 0, held = 0, dead = 0;
  int64_t oldest_event_s = 0;  // of those waiting; 0: none
};

class Outbox {
 public:
  Outbox(Env& env, ledger::Session& session) : env_(env), session_(session) {}

  // Makes rows of aggregates that have none, oldest first, at most `limit`.
  Result<Enqueued> enqueue(int64_t limit);
  // Rows that were held and whose tenant has a Stripe customer now become pending. Returns how many.
  Result<int64_t> release_held(int64_t limit);
  // Rows that take off what was reported too much, and that are held until that was delivered, become pending as far as
  // what was delivered stays at or above zero. Returns how many.
  Result<int64_t> release_corrections(int64_t limit);
  // Makes due what others have claimed and not recorded. Only for a leader that has nothing in flight.
  Result<int64_t> take_over();
  // Rows that are due, at most `per_key` of one customer and meter; nobody else gets them for `lease_ms`.
  Result<std::vector<Submission>> claim(int64_t limit, int64_t per_key, int64_t lease_ms);
  // With the postings of what was delivered, in one transaction. Repeating it changes nothing. Returns how many were
  // delivered.
  Result<int64_t> record(std::span<const Outcome> outcomes);
  Result<Backlog> backlog();

 private:
  std::string now() const { return ledger::timestamp_text(env_.wall_ns()); }
  Env& env_;
  ledger::Session& session_;
};

}  // namespace tallygate::billing
