#include "sidecar/main/upstream_resolver.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

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
  shared_->stopping = false;
  thread_ = std::thread([this] { run(); });
}

void UpstreamResolver::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stopping = true;
  }
  shared_->wake.notify_all();
  thread_.join();
}

void UpstreamResolver::run() {
  bool settled = look();
  std::unique_lock lock(shared_->mutex);
  while (!shared_->wake.wait_for(lock, settled ? kInterval : kAgain, [this] { return shared_->stopping; })) {
    lock.unlock();
    settled = look();
    lock.lock();
  }
}

// Nothing once we stop. A look-up takes as long as name servers are away and cannot be broken off, so its thread is
// left to itself then.
std::optional<Result<std::vector<proxy::Address>>> UpstreamResolver::ask() {
  std::unique_lock lock(shared_->mutex);
  shared_->answer.reset();
  std::thread([shared = shared_, look_up = look_up_, name = name_] {
    auto answer = look_up(name);
    const std::lock_guard held(shared->mutex);
    shared->answer = std::move(answer);
    shared->wake.notify_all();
  }).detach();
  shared_->wake.wait(lock, [this] { return shared_->answer || shared_->stopping; });
  return shared_->stopping ? std::nullopt : std::exchange(shared_->answer, std::nullopt);
}

// False where the name is not known, or nobody answers at any of its addresses.
bool UpstreamResolver::look() {
  const auto answer = ask();
  if (!answer) return false;
  auto all = *answer;
  if (!all) {
    failed_(all.error());
    return false;
  }
  const uint64_t failures = failures_();
  const auto used =
      std::find_if(all->begin(), all->end(), [this](const auto& a) { return in_use_ && same(a, *in_use_); });
  if (used != all->end() && failures == failures_seen_) return true;
  failures_seen_ = failures;
  if (used != all->end()) std::rotate(all->begin(), used, used + 1);  // it is asked first
  const auto first = all->size() == 1 ? all->begin() : std::find_if(all->begin(), all->end(), takes_connections);
  found_(first == all->end() ? all->front() : *first);
  in_use_.reset();
  if (first == all->end()) return false;  // looked at again
  in_use_ = *first;
  return true;
}

}  // namespace tallygate::sidecar
