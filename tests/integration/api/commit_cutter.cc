#include "tests/integration/api/commit_cutter.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

#include "core/result.h"

namespace tallygate::testing {
namespace {

sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

// What ends in a commit: the message Query ('Q', four bytes of length, the text) with a COMMIT, as pqxx sends it alone,
// and the message Bind ('B', its length, no portal, the statement's name) of a statement that Session has prepared: those
// of group commit, each a transaction of its own.
bool commits(std::string_view bytes) {
  if (bytes.size() < 8) return false;
  return bytes.starts_with('Q') ? bytes.substr(5).starts_with("COMMIT")
                                : bytes.starts_with('B') && bytes.substr(5, 2) == std::string_view("\0s", 2);
}

// ReadyForQuery, outside of a transaction.
bool is_done(std::string_view bytes) { return bytes.ends_with(std::string_view("Z\0\0\0\5I", 6)); }

}  // namespace

CommitCutter::CommitCutter(uint16_t port, int period) : upstream_(port), period_(period) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  auto address = loopback(0);
  socklen_t size = sizeof address;
  TG_ASSERT(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0 && ::listen(listener_, 128) == 0);
  ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept(); });
}

CommitCutter::~CommitCutter() {
  stopping_ = true;
  ::shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  for (auto& carrier : carriers_) carrier.join();
  ::close(listener_);
}

void CommitCutter::accept() {
  while (!stopping_) {
    const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) continue;
    const std::lock_guard lock(mutex_);
    carriers_.emplace_back([this, client] { carry(client); });
  }
}

void CommitCutter::carry(int client) {
  const int server = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const auto address = loopback(upstream_);
  bool open = ::connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  const int on = 1;
  for (const int fd : {client, server}) ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  char bytes[16384];
  while (open && !stopping_) {
    pollfd ready[] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
    if (::poll(ready, 2, 50) <= 0) continue;
    for (int i = 0; i < 2 && open; ++i) {
      if (ready[i].revents == 0) continue;
      const ssize_t n = ::recv(ready[i].fd, bytes, sizeof bytes, 0);
      const std::string_view text(bytes, n > 0 ? static_cast<size_t>(n) : 0);
      open = n > 0 && send_all(i == 0 ? server : client, text);
      if (!open || i == 1 || !commits(text) || ++commits_ % period_ != 0 || !cutting_) continue;
      open = false;
      std::string answer;  // which the client does not get
      for (ssize_t m = 1; m > 0 && !is_done(answer); answer.append(bytes, static_cast<size_t>(m))) {
        m = std::max<ssize_t>(0, ::recv(server, bytes, sizeof bytes, 0));
      }
      ++cuts_;
    }
  }
  ::close(server);
  ::close(client);
}

}  // namespace tallygate::testing
