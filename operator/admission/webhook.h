// What the API server talks to: POST /validate for our own resources, /inject for pods that are created, /injected for
// the same pods once every other webhook has changed them. HTTPS; listens from its first certificate on.
//
// Threading: use() and stop() from one thread at a time; the handlers run on the server's workers.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "core/config/parsers.h"
#include "core/env.h"
#include "core/http/server.h"
#include "core/telemetry/metrics.h"
#include "operator/admission/cluster_view.h"
#include "operator/admission/inject.h"
#include "operator/admission/memory_file.h"
#include "operator/admission/review.h"

namespace tallygate::admission {

class Webhook {
 public:
  // What is referred to outlives it.
  Webhook(Env& env, config::ListenAddress listen, ClusterView& cluster, InjectorSettings settings,
          metrics::Registry& registry);
  ~Webhook();

  // From now on for new connections. On an error what was in use stays so.
  Result<void> use(const std::string& certificate, const std::string& key);
  bool listens() const { return listens_; }
  void stop(int64_t grace_ms);

 private:
  struct Metrics {
    metrics::Counter allowed, patched, refused, unreadable;
    metrics::Histogram seconds;
  };
  Result<void> listen();
  http::Response serve(const http::Request& request, const Metrics& metrics, Answer (Webhook::*answer)(const Review&));
  Answer validate_object(const Review& review);
  Answer inject_pod(const Review& review);
  Answer check_pod(const Review& review);
  Result<NamespaceView> look_at(const Review& review);

  Env& env_;
  const config::ListenAddress address_;
  ClusterView& cluster_;
  const InjectorSettings settings_;
  Metrics validate_, inject_, injected_;
  MemoryFile certificate_, key_;
  std::unique_ptr<http::Server> server_;
  std::atomic<bool> listens_{false};
};

}  // namespace tallygate::admission
