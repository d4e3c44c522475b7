// All parts of a sidecar, made in the order in which they depend on each other; start(), then run the loop; drain()
// ends it.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "core/io/event_loop.h"
#include "core/ledger_clock.h"
#include "core/redis_client/connection.h"
#include "core/telemetry/health.h"
#include "core/telemetry/metrics.h"
#include "sidecar/admission/admission.h"
#include "sidecar/escrow/claims.h"
#include "sidecar/escrow/courier.h"
#include "sidecar/escrow/escrow.h"
#include "sidecar/escrow/handover.h"
#include "sidecar/log/data_folder.h"
#include "sidecar/log/predecessor.h"
#include "sidecar/log/syncer.h"
#include "sidecar/log/usage_log.h"
#include "sidecar/main/redis_login.h"
#include "sidecar/main/settings.h"
#include "sidecar/main/upstream_resolver.h"
#include "sidecar/proxy/proxy.h"

namespace tallygate::sidecar {

class Sidecar {
 public:
  // Locks the data folder and recovers what predecessors left in it. Opens no socket.
  // `clock`, which is also the loop's, learns the ledger's time from what Redis answers.
  static Result<std::unique_ptr<Sidecar>> create(EventLoop& loop, LedgerClock& clock, Settings settings);
  ~Sidecar();

  Result<void> start();
  std::string address() const { return proxy_->bound_address(); }
  // The pod is about to end: not ready, and clients are told to come back on other connections; who comes is served.
  void wind_down();
  // Not ready at once; after Settings::drain_delay_ms, or when called again, stops accepting, finishes what is in
  // flight, returns unspent units, waits (bounded) until the ledger has booked everything, then calls the first `done`.
  void drain(std::function<void()> done);

  // For the admin port's threads.
  void declare(telemetry::Health& health);
  void export_metrics(metrics::Scrape& scrape) const;

 private:
  Sidecar(EventLoop& loop, LedgerClock& clock, Settings settings);
  Result<void> recover(const std::string& boot_id);
  void commit();
  void find_app();
  std::string no_policy() const;
  std::string redis_stalled() const;
  std::string redis_error() const;
  void watch();
  void begin_drain();
  void examine_log();
  void remember_ledger();
  void condemn(const Predecessor& predecessor);
  void note(const Result<void>& remembered);
  void put_away(const std::string& folder) const;
  void drained();
  void give_back();
  void await_ledger(int64_t until_ns);
  void finish();

  EventLoop& loop_;
  LedgerClock& clock_;
  Settings settings_;
  DataFolder folder_;
  std::unique_ptr<UsageLog> log_;
  std::vector<std::unique_ptr<Predecessor>> predecessors_;
  Spent spent_before_;  // by predecessors, for the allowance
  Syncer syncer_;
  std::unique_ptr<redis::Connection> redis_, notices_;
  std::unique_ptr<RedisLogin> redis_login_;
  std::unique_ptr<LedgerClient> ledger_client_;
  std::unique_ptr<LedgerLeases> ledger_;  // null where no endpoint is set
  std::unique_ptr<Escrow> escrow_;
  std::unique_ptr<Courier> courier_;
  std::unique_ptr<Handover> handover_;
  std::unique_ptr<LedgerMemory> memory_;
  std::unique_ptr<Claims> claims_;
  std::unique_ptr<Trust> trust_;
  std::unique_ptr<Directory> directory_;
  std::unique_ptr<Admission> admission_;
  std::unique_ptr<proxy::Proxy> proxy_;
  std::unique_ptr<UpstreamResolver> resolver_;  // null where the app is known by its address
  std::function<void()> done_;
  bool draining_ = false;
  bool giving_back_ = false;
  bool returned_ = false;
  int64_t forgot_ns_ = 0, examined_ns_ = 0;
  int64_t resending_ = 0;  // the generation for which kept records are being sent again
  EventLoop::TimerId commit_timer_ = 0, watch_timer_ = 0, drain_timer_ = 0;

  // What admin threads may see.
  mutable std::mutex stalled_mutex_;
  std::string redis_stalled_;  // Escrow::stalled()
  std::string redis_error_;    // Connection::last_error()
  enum class LogState : uint8_t { kSound, kFull, kGone };
  std::atomic<LogState> log_state_{LogState::kSound};
  std::atomic<bool> commit_failing_{false};  // the last one
  std::atomic<bool> memory_failing_{false};  // likewise
  std::atomic<bool> ledger_behind_{false};
  std::atomic<int64_t> kept_bytes_{0};
  std::atomic<bool> redis_up_{false}, ledger_up_{false}, policy_known_{false}, app_known_{false}, is_draining_{false};
  std::atomic<uint64_t> tenants_{0}, purses_{0}, segments_{0}, in_flight_{0}, waiting_{0}, commit_failures_{0},
      recovered_{0}, aside_{0};
};

}  // namespace tallygate::sidecar
