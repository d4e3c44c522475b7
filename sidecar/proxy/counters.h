// What the data plane counts. One writer, the proxy's thread; any thread may read, each figure on its own.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "core/http1/parse_error.h"
#include "sidecar/proxy/problem.h"

namespace tallygate::proxy {

class Counter {
 public:
  // No read-modify-write instruction: there is one writer.
  void add(uint64_t n = 1) { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  void set(uint64_t n) { value_.store(n, std::memory_order_relaxed); }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

struct DurationHistogram {
  static constexpr std::array<int64_t, 14> kUpperBoundsNs{
      500'000,     1'000'000,   2'500'000,     5'000'000,     10'000'000,    25'000'000,     50'000'000,
      100'000'000, 250'000'000, 1'000'000'000, 2'500'000'000, 5'000'000'000, 10'000'000'000, 60'000'000'000};
  std::array<Counter, kUpperBoundsNs.size() + 1> buckets;  // not cumulative; the last has no upper bound
  Counter sum_ns;
  void observe(int64_t ns) {
    size_t i = 0;
    while (i < kUpperBoundsNs.size() && ns > kUpperBoundsNs[i]) ++i;
    buckets[i].add();
    sum_ns.add(static_cast<uint64_t>(ns));
  }
};

struct Counters {
  std::array<Counter, 6> responses;  // by status class, of the app and of our own; [0] unused
  Counter admitted, denied, waited, abandoned;
  Counter settled_completed, settled_client_aborted, settled_upstream_failed, settled_cut;
  Counter drained;                     // responses that were read to their end without a client
  Counter bodies_collected;            // request bodies that the gate wanted to see first
  Counter collected_bytes;             // gauge: of those that are held just now
  Counter response_pauses;             // by the gate
  Counter request_body_bytes, response_body_bytes;  // payload
  Counter clients_accepted, clients_refused;
  Counter clients_displaced;  // idle ones that made room for a new one
  Counter accept_failures;
  Counter clients_active, upstreams_active, upstreams_pooled, requests_waiting;  // gauges
  Counter upstream_connects, upstream_connect_failures, upstream_reuses, upstream_retries;
  Counter upstream_resends;  // of the retries: the app may have seen the request before
  Counter client_timeouts, upstream_timeouts;
  Counter backpressure_pauses;
  std::array<Counter, static_cast<size_t>(http1::ParseError::kCount)> request_parse_errors, response_parse_errors;
  std::array<Counter, static_cast<size_t>(Reason::kCount)> problems;
  DurationHistogram duration;  // of admitted requests, from the complete head to the last byte of the response
};

}  // namespace tallygate::proxy
