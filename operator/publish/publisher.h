// Brings the newest compiled snapshot to PostgreSQL, then to Redis, and keeps it there.
//
// Postgres first, so that whatever sidecars hear of is already in force in the ledger. Only what changed is written, by
// content, also across restarts. Versions only grow: each publication reserves its own in Postgres before it writes. A
// new generation is given out where Redis has no publication of ours (it was wiped), or a different one: everything is
// then published anew, and readers start from nothing. Where the last publication may be half there (this process died
// in it), everything is written again under the same generation.
// Each `check_interval_ms` it looks whether the publication is still whole, and whom the ledger has suspended: by
// level, so that nothing is missed over restarts. Their documents say so, beside what the manifests say; the ledger's
// terms of them do not, so that whoever resumes a wallet waits for nobody. Where PostgreSQL is away, those suspended
// last stay so. Retries with backoff while PostgreSQL or Redis is away; the newest snapshot wins.
//
// Everything is signed (core/redis_contract/signature.h). A signing key that has changed is noticed within
// `keys_interval_ms`, and everything written again by it.
//
// Lifecycle: start(), stop(); one thread with connections of its own. offer() and status() from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "core/env.h"
#include "core/io/event_loop.h"
#include "core/telemetry/metrics.h"
#include "operator/publish/documents.h"
#include "operator/publish/ledger_publication.h"
#include "operator/publish/publication_keys.h"
#include "operator/publish/redis_publication.h"

namespace tallygate::publish {

struct PublisherOptions {
  std::string database_url;
  redis::Endpoint redis;
  std::string key_file;  // of the signing key; empty: the ledger's own
  int64_t keys_interval_ms = 5'000;
  std::string api_key_pepper;  // empty: API keys are published under their plain hashes alone
  bool api_key_plain_hashes = true;
  int64_t check_interval_ms = 200;  // a suspension is in force a second after it was committed
  int64_t retry_min_ms = 50;
  int64_t retry_max_ms = 2'000;
  size_t removals_remembered_max = 50'000;  // past that a new generation forgets them
  std::function<bool()> is_leader = [] { return true; };
  // After a publication, for each tenant whose terms or suspension have changed.
  std::function<void(const TenantId&)> on_tenant_changed = [](const TenantId&) {};
};

class Publisher {
 public:
  Publisher(Env& env, PublisherOptions options, metrics::Registry& registry);
  ~Publisher();
  void start();
  void stop();

  // Done before anything of a snapshot is written, on the publisher's thread and under its reign; until it succeeds
  // nothing is.
  using Before = std::function<Result<void>(int64_t reign)>;
  // `noticed_ns`: when the change was noticed, monotonic, for the latency that is logged.
  void offer(std::shared_ptr<const plan::Compiled> compiled, int64_t noticed_ns, Before before = nullptr);

  struct Status {
    int64_t version = 0;   // 0: nothing was published by this process
    bool in_sync = false;  // what was offered last is published
    std::string error;     // of the last attempt; empty: it succeeded
    std::shared_ptr<const plan::Compiled> published;  // what is in force: the last that was published as a whole
  };
  Status status() const;

  // One attempt at everything that is due. For the thread and for tests, which do not start it.
  Result<void> run_once();

 private:
  struct Snapshot {
    std::shared_ptr<const plan::Compiled> compiled;
    int64_t noticed_ns = 0;
    Before before;
  };
  struct Metrics;

  void run();
  Snapshot newest() const;
  Result<void> look_at_keys();
  Result<void> look_at_suspensions();
  Result<void> look_at_redis();
  Result<void> publish(const Snapshot& snapshot);
  Result<void> publish_changes(const Snapshot& snapshot, const Changes& changes,
                               const LedgerPublication::TermChanges& terms);
  void remember(const Changes& changes, const Desired& desired, int64_t version);
  void distrust(const Changes& changes);
  void report(const Snapshot& snapshot, const Changes& changes, const LedgerPublication::TermChanges& terms);

  Env& env_;
  const PublisherOptions options_;
  LedgerPublication ledger_;
  RedisPublication redis_;
  PublicationKeys keys_source_;
  EventLoop loop_;
  std::unique_ptr<Metrics> metrics_;
  std::atomic<bool> stopping_ = false;

  // Of the thread.
  bool was_leader_ = false;
  std::optional<Keys> keys_;
  int64_t keys_due_ms_ = 0;
  bool known_ = false;           // whether held_ is what Redis holds
  bool healing_ = false;         // what was published was lost
  int64_t looked_anew_ns_ = 0;   // when that was noticed
  bool new_generation_ = false;  // the next publication starts a generation
  Meta meta_;                    // of the publication that is in Redis
  Holding held_;
  size_t index_size_ = 0;                   // names in the change index as of meta_
  std::optional<Suspensions> suspensions_;  // as last seen; none before the first look
  int64_t suspensions_changed_ns_ = 0;
  std::vector<TenantId> resuspended_;                // whose suspension changed and is not published yet
  std::shared_ptr<const plan::Compiled> published_;  // the last one that was published as a whole
  Desired desired_;                                  // of desired_source_
  std::shared_ptr<const plan::Compiled> desired_source_;

  mutable std::mutex mutex_;  // guards what follows
  Snapshot offered_;
  Status status_;

  std::thread thread_;
};

}  // namespace tallygate::publish
