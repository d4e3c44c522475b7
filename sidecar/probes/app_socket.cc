#include "sidecar/probes/app_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "sidecar/proxy/address.h"

namespace tallygate::sidecar {
namespace {

tl::unexpected<Error> failed(const char* what, int error) {
  return fail(Errc::kUnavailable, std::string(what) + ": " + std::strerror(error));
}

}  // namespace

Result<AppSocket> AppSocket::connect(Env& env, const std::string& upstream, int64_t deadline_ns) {
  const auto addresses = proxy::look_up(upstream);
  if (!addresses) return tl::unexpected(addresses.error());
  Error last;
  for (const proxy::Address& address : *addresses) {
    AppSocket made(env, ::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), deadline_ns);
    made.address_ = address.text;
    if (made.descriptor_ < 0) return failed("no socket", errno);
    if (::connect(made.descriptor_, address.get(), address.size) == 0) return made;
    int error = errno;
    if (error == EINPROGRESS) {
      if (auto ready = made.await(POLLOUT); !ready) return tl::unexpected(ready.error());
      socklen_t size = sizeof error;
      ::getsockopt(made.descriptor_, SOL_SOCKET, SO_ERROR, &error, &size);
    }
    if (error == 0) return made;
    last = failed("the app does not take connections", error).value();
  }
  return tl::unexpected(std::move(last));
}

AppSocket::AppSocket(AppSocket&& other) noexcept
    : env_(other.env_),
      descriptor_(std::exchange(other.descriptor_, -1)),
      deadline_ns_(other.deadline_ns_),
      address_(std::move(other.address_)) {}

AppSocket::~AppSocket() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<void> AppSocket::await(short events) {
  for (;;) {
    const int64_t left_ms = (deadline_ns_ - env_->mono_ns() + 999'999) / 1'000'000;
    pollfd waiting{descriptor_, events, 0};
    const int ready = left_ms <= 0 ? 0 : ::poll(&waiting, 1, static_cast<int>(std::min<int64_t>(left_ms, 60'000)));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return failed("poll", errno);
    if (left_ms <= 0) return fail(Errc::kTimeout, "the app does not answer in time");
  }
}

Result<void> AppSocket::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n >= 0) {
      bytes.remove_prefix(static_cast<size_t>(n));
    } else if (errno == EAGAIN) {
      if (auto ready = await(POLLOUT); !ready) return ready;
    } else if (errno != EINTR) {
      return failed("the app closed the connection", errno);
    }
  }
  return {};
}

Result<void> AppSocket::read(std::string* into) {
  char buffer[4096];
  for (;;) {
    const ssize_t n = ::recv(descriptor_, buffer, sizeof buffer, 0);
    if (n >= 0) {
      into->append(buffer, static_cast<size_t>(n));
      return {};
    }
    if (errno == EAGAIN) {
      if (auto ready = await(POLLIN); !ready) return ready;
    } else if (errno != EINTR) {
      return failed("the app closed the connection", errno);
    }
  }
}

}  // namespace tallygate::sidecar
