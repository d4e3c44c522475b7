#include "sidecar/main/upstream_resolver.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

namespace tallygate::sidecar {
namespace {

constexpr std::chrono::seconds kAgain{1};     // nothing found yet
constexpr std::chrono::seconds kInterval{5};  // as long as records of services usually live
constexpr int kConnectMs = 1000;

bool same(const proxy::Address& a, const proxy::Address& b) {
  return a.size == b.size && std::memcmp(&a.storage, &b.storage, a.size) == 0;
}

bool takes_connections(const proxy::Address& address) {
  const int fd = socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  bool connected = connect(fd, address.get(), address.size) == 0;
  if (!connected && errno == EINPROGRESS) {
    pollfd waiting{fd, POLLOUT, 0};
    int error = 0;
    socklen_t size = sizeof error;
    connected =
        poll(&waiting, 1, kConnectMs) == 1 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
  }
  close(fd);
  return connected;
}

}  // namespace

UpstreamResolver::UpstreamResolver(std::string name, std::function<uint64_t()> failures, LookUp look_up)
    : name_(std::move(name)), failures_(std::move(failures)), look_up_(std::move(look_up)) {}

UpstreamResolver::~UpstreamResolver() { stop(); }

void UpstreamResolver::start(std::function<void(const proxy::Address&)> found,
                             std::function<void(const Error&)> failed) {
  if (thread_.joinable()) return;
  found_ = std::move(found);
  failed_ = std::move(failed);
  stopping_ = false;
  thread_ = std::thread([this] { run(); });
}

void UpstreamResolver::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void UpstreamResolver::run() {
  bool settled = look();
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, settled ? kInterval : kAgain, [this] { return stopping_; })) {
    lock.unlock();
    settled = look();
    lock.lock();
  }
}

// False where the name is not known, or nobody answers at any of its addresses.
bool UpstreamResolver::look() {
  auto all = look_up_(name_);
  if (!all) {
    failed_(all.error());
    return false;
  }
  const uint64_t failures = failures_();
  const bool unchanged = std::equal(all->begin(), all->end(), known_.begin(), known_.end(), same);
  if (unchanged && failures == failures_seen_) return true;
  failures_seen_ = failures;
  known_ = std::move(*all);
  if (known_.size() == 1) {
    found_(known_[0]);
    return true;
  }
  const auto first = std::find_if(known_.begin(), known_.end(), takes_connections);
  found_(first == known_.end() ? known_[0] : *first);
  if (first == known_.end()) known_.clear();  // looked at again
  return first != known_.end();
}

}  // namespace tallygate::sidecar
