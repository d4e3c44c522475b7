#include "tests/integration/support/tcp_cutter.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "core/result.h"

namespace tallygate::testing {
namespace {

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

// What there is to read at one end goes to the other. False: the end.
bool pass_on(int from, int to) {
  char piece[64 * 1024];
  const ssize_t got = recv(from, piece, sizeof piece, 0);
  for (ssize_t sent = 0; sent < got;) {
    const ssize_t now = send(to, piece + sent, static_cast<size_t>(got - sent), MSG_NOSIGNAL);
    if (now <= 0) return false;
    sent += now;
  }
  return got > 0;
}

}  // namespace

TcpCutter::TcpCutter(int target_port) : target_port_(target_port) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  TG_ASSERT(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 && listen(listener_, 64) == 0);
  socklen_t size = sizeof address;
  getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_all(); });
}

TcpCutter::~TcpCutter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  cut();
  for (std::thread& thread : threads_) thread.join();
  close(listener_);
}

void TcpCutter::cut() {
  const std::lock_guard lock(mutex_);
  for (const int fd : open_) {
    const linger now{1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    shutdown(fd, SHUT_RDWR);
  }
}

void TcpCutter::accept_all() {
  while (true) {
    const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) return;
    threads_.emplace_back([this, client] { carry(client); });
  }
}

void TcpCutter::carry(int client) {
  const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(target_port_);
  bool alive = connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  {
    const std::lock_guard lock(mutex_);
    open_.push_back(client);
    open_.push_back(server);
    alive = alive && !stopping_;
  }
  while (alive) {
    pollfd ends[2] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
    if (poll(ends, 2, -1) < 0) break;
    alive = (ends[0].revents == 0 || pass_on(client, server)) && (ends[1].revents == 0 || pass_on(server, client));
  }
  const std::lock_guard lock(mutex_);
  for (const int fd : {client, server}) {
    open_.erase(std::find(open_.begin(), open_.end(), fd));
    close(fd);
  }
}

}  // namespace tallygate::testing
