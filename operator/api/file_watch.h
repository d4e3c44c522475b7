// Follows files that may change while the process runs, as a Kubernetes Secret's do: looks at their content,
// through symbolic links, again and again. What is wrong with the new content is told by log, metric and trouble(), and
// what was in force stays so.
//
//   FileWatch watch(env, 1'000, registry);
//   watch.follow("certificate", {cert, key}, [&] { return server.reload_tls(); });
//   watch.start();
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "core/env.h"
#include "core/result.h"
#include "core/telemetry/metrics.h"
#include "operator/api/ticker.h"

namespace tallygate::api {

class FileWatch {
 public:
  // `env` and `registry` outlive it.
  FileWatch(Env& env, int64_t interval_ms, metrics::Registry& registry);
  // `reload` reads the files; it is called on the watch's thread, once their content differs from what it is now. They
  // are one thing: read while they are being replaced, they are read again. Before start().
  void follow(std::string what, std::vector<std::string> files, std::function<Result<void>()> reload);
  // The same where reloading may change which files they are.
  void follow(std::string what, std::function<std::vector<std::string>()> files, std::function<Result<void>()> reload);
  void start() { ticker_.start(); }
  void stop() { ticker_.stop(); }
  // What could not be taken; empty: nothing. Any thread.
  std::string trouble() const;

 private:
  struct Followed {
    std::string what;
    std::function<std::vector<std::string>()> files;
    std::function<Result<void>()> reload;
    std::string content;  // a hash: keys need not be in memory twice
    metrics::Counter taken, failures;
    metrics::Gauge in_trouble;
    std::string trouble;  // under mutex_
  };
  void look();
  void take(Followed& one);

  metrics::Registry& registry_;
  std::vector<Followed> followed_;
  mutable std::mutex mutex_;
  Ticker ticker_;
};

}  // namespace tallygate::api
