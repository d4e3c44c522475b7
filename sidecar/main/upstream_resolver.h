// Looks the app's name up, again and again, on a thread of its own: a look-up blocks. Of several addresses (localhost
// is ::1 and 127.0.0.1, and many an app listens on one of them alone) the first that takes a connection is the app's,
// and stays so as long as it is among them, in whatever order, and can be reached.
//
// Threading: start() and stop() on one thread; `found` and `failed` are called on the resolver's.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "core/result.h"
#include "sidecar/proxy/address.h"

namespace tallygate::sidecar {

class UpstreamResolver {
 public:
  using LookUp = std::function<Result<std::vector<proxy::Address>>(std::string_view)>;
  // `failures` counts connections to the app that failed: as long as it stands still, a known address stays. Any
  // thread.
  UpstreamResolver(std::string name, std::function<uint64_t()> failures, LookUp look_up = proxy::look_up);
  ~UpstreamResolver();
  // Idempotent, as stop() is. A look-up that is under way by then is not waited for, and its answer of no effect.
  void start(std::function<void(const proxy::Address&)> found, std::function<void(const Error&)> failed);
  void stop();

 private:
  void run();
  std::optional<Result<std::vector<proxy::Address>>> ask();
  bool look();

  const std::string name_;
  const std::function<uint64_t()> failures_;
  const LookUp look_up_;
  std::function<void(const proxy::Address&)> found_;
  std::function<void(const Error&)> failed_;
  std::optional<proxy::Address> in_use_;  // the last that took a connection, or the only one
  uint64_t failures_seen_ = 0;
  // What a look-up's thread shares with ours, and may outlive us with.
  struct Shared {
    std::mutex mutex;
    std::condition_variable wake;
    bool stopping = false;
    std::optional<Result<std::vector<proxy::Address>>> answer;
  };
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  std::thread thread_;
};

}  // namespace tallygate::sidecar
