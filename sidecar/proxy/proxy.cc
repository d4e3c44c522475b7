#include "sidecar/proxy/proxy.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

namespace tallygate::proxy {
namespace {

constexpr int64_t kTickMs = 67;  // one slot of the deadline wheel
constexpr int kAcceptsPerTurn = 64;
constexpr int64_t kAcceptPauseMs = 100;
constexpr size_t kTurnedAwayMax = 128;
constexpr int64_t kTurnedAwayMs = 1'000;
constexpr size_t kDiscardBytes = 16 * 1024 * 1024;
constexpr uint32_t kEvents = EPOLLIN | EPOLLRDHUP | EPOLLET;

void set_no_delay(int fd) {
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

Error system_error(const std::string& what) { return {Errc::kUnavailable, what + ": " + std::strerror(errno)}; }

}  // namespace

struct Proxy::Socket final : EventLoop::Watcher {
  explicit Socket(Proxy& proxy) : proxy(proxy) {}
  void on_ready(uint32_t events) override { proxy.on_socket(*this, events); }
  Proxy& proxy;
  int fd = -1;
  Conn* conn = nullptr;
  // A Unix socket reports EPOLLOUT whenever its peer reads, so it is asked for only while there is something to send.
  bool on_demand = false, asked = false;
};

void Proxy::Listener::on_ready(uint32_t) { proxy.accept_some(); }

Result<std::unique_ptr<Proxy>> Proxy::create(EventLoop& loop, Options options, Gate& gate) {
  auto listen = look_up(options.listen);
  if (!listen) return tl::unexpected(listen.error());
  Address upstream;  // of no family: nothing can be reached there
  if (auto known = parse_address(options.upstream))
    upstream = std::move(*known);
  else
    upstream.text = options.upstream;
  if (options.limits.fields_max > http1::kFieldsCapacity) return fail(Errc::kInvalid, "limits.fields_max is too large");
  if (options.buffer_low_bytes >= options.buffer_high_bytes) {
    return fail(Errc::kInvalid, "buffer_low_bytes must be less than buffer_high_bytes");
  }
  if (options.via.size() > 64) return fail(Errc::kInvalid, "via is too long");
  return std::unique_ptr<Proxy>(new Proxy(loop, std::move(options), std::move(*listen), std::move(upstream), gate));
}

Proxy::Proxy(EventLoop& loop, Options options, std::vector<Address> listen, Address upstream, Gate& gate)
    : loop_(loop),
      options_(std::move(options)),
      listen_addresses_(std::move(listen)),
      upstream_address_(std::move(upstream)),
      listener_(*this),
      engine_(loop.env(), options_, upstream_address_.text, gate, *this, loop.now_ns()) {}

Proxy::~Proxy() { stop(); }

Result<void> Proxy::start() {
  TG_ASSERT(listen_fd_ < 0 && !stopped_);
  Result<void> started;
  for (const Address& address : listen_addresses_) {
    if ((started = start_on(address))) break;
  }
  return started;
}

Result<void> Proxy::start_on(const Address& address) {
  const int fd = socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return tl::unexpected(system_error("cannot listen on " + options_.listen));
  const int one = 1, zero = 0;
  if (address.family() == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (options_.reuse_port) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (bind(fd, address.get(), address.size) != 0 || listen(fd, options_.listen_backlog) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
    const Error error = system_error("cannot listen on " + options_.listen);
    ::close(fd);
    return tl::unexpected(error);
  }
  listen_fd_ = fd;
  bound_address_ = to_string(reinterpret_cast<sockaddr*>(&bound));
  if (bound.ss_family == AF_INET) port_ = ntohs(reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
  if (bound.ss_family == AF_INET6) port_ = ntohs(reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port);
  loop_.add(fd, EPOLLIN, &listener_);
  return {};
}

void Proxy::close_listener() {
  if (listen_fd_ < 0) return;
  loop_.remove(listen_fd_, &listener_);
  ::close(listen_fd_);
  listen_fd_ = -1;
  loop_.cancel(accept_timer_);
}

// False once all that waited are in.
bool Proxy::accept_some() {
  bool more = true;
  engine_.set_now(loop_.now_ns());
  for (int i = 0; i < kAcceptsPerTurn && listen_fd_ >= 0; ++i) {
    sockaddr_storage peer;
    socklen_t size = sizeof peer;
    const int fd = accept4(listen_fd_, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        engine_.note_accept_failure();
        pause_accepting();
        more = false;
        break;
      }
      if (errno == ECONNABORTED || errno == EINTR) continue;
      more = false;
      break;
    }
    set_no_delay(fd);
    Socket* socket = open_socket(fd, nullptr);
    socket->conn = engine_.accept(socket, reinterpret_cast<sockaddr*>(&peer));
    if (socket->conn == nullptr) {
      turn_away(fd);
      free_sockets_.push_back(socket);
      continue;
    }
    loop_.add(fd, kEvents | EPOLLOUT, socket);
  }
  arm_tick();
  if (engine_.has_ready()) schedule_turn(0);  // somebody made room
  return more;
}

// It stays open for a while: a request that comes to a closed connection is answered by a reset, which may destroy the
// refusal on its way.
void Proxy::turn_away(int fd) {
  const std::string text = engine_.refusal();
  [[maybe_unused]] const ssize_t n = send(fd, text.data(), text.size(), MSG_NOSIGNAL);
  ::shutdown(fd, SHUT_WR);
  close_turned_away(kTurnedAwayMax - 1, 0);
  turned_away_.push_back({fd, loop_.now_ns() + kTurnedAwayMs * 1'000'000});
}

// Those of whom the time is over, and of the rest all but the last `keep`.
void Proxy::close_turned_away(size_t keep, int64_t now_ns) {
  while (!turned_away_.empty() && (turned_away_.size() > keep || turned_away_.front().until_ns <= now_ns)) {
    const int fd = turned_away_.front().fd;
    turned_away_.pop_front();
    [[maybe_unused]] const ssize_t n = recv(fd, nullptr, kDiscardBytes, MSG_TRUNC | MSG_DONTWAIT);  // of TCP: discards
    ::close(fd);
  }
}

// Out of descriptors: without a pause the loop would spin on a listener that stays ready.
void Proxy::pause_accepting() {
  loop_.modify(listen_fd_, 0, &listener_);
  loop_.cancel(accept_timer_);
  accept_timer_ = loop_.after_ms(kAcceptPauseMs, [this] { loop_.modify(listen_fd_, EPOLLIN, &listener_); });
}

Proxy::Socket* Proxy::open_socket(int fd, Conn* conn) {
  if (free_sockets_.empty()) {
    sockets_.push_back(std::make_unique<Socket>(*this));
    free_sockets_.push_back(sockets_.back().get());
  }
  Socket* socket = free_sockets_.back();
  free_sockets_.pop_back();
  socket->fd = fd;
  socket->conn = conn;
  socket->on_demand = socket->asked = false;
  return socket;
}

void Proxy::on_socket(Socket& socket, uint32_t events) {
  engine_.set_now(loop_.now_ns());
  Conn& conn = *socket.conn;
  unsigned what = 0;
  if (events & EPOLLIN) what |= Engine::kReadable;
  if (events & EPOLLOUT) what |= Engine::kWritable;
  if (events & EPOLLRDHUP) what |= Engine::kPeerClosed;
  if (events & (EPOLLERR | EPOLLHUP)) what |= Engine::kFailed;
  if (conn.connecting && (what & Engine::kWritable) && !(what & Engine::kFailed)) engine_.on_connected(conn);
  engine_.on_event(conn, what);
  if (!conn.dead && socket.asked && conn.out.empty()) {
    socket.asked = false;
    loop_.modify(socket.fd, kEvents, &socket);
  }
  if (engine_.has_ready()) schedule_turn(0);
}

ssize_t Proxy::read(Conn& conn, char* data, size_t size) {
  const int fd = static_cast<Socket*>(conn.io)->fd;
  for (;;) {
    const ssize_t n = recv(fd, data, size, 0);
    if (n >= 0) return n;
    if (errno == EINTR) continue;
    return errno == EAGAIN ? kIoAgain : kIoFailed;
  }
}

ssize_t Proxy::write(Conn& conn, const iovec* parts, int count) {
  Socket& socket = *static_cast<Socket*>(conn.io);
  for (;;) {
    ssize_t n;
    if (count == 1) {
      n = send(socket.fd, parts->iov_base, parts->iov_len, MSG_NOSIGNAL);
    } else {
      msghdr message{};
      message.msg_iov = const_cast<iovec*>(parts);
      message.msg_iovlen = static_cast<size_t>(count);
      n = sendmsg(socket.fd, &message, MSG_NOSIGNAL);
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) return kIoFailed;
    if (socket.on_demand && !socket.asked) {
      size_t total = 0;
      for (int i = 0; i < count; ++i) total += parts[i].iov_len;
      if (n < 0 || static_cast<size_t>(n) < total) {
        socket.asked = true;
        loop_.modify(socket.fd, kEvents | EPOLLOUT, &socket);
      }
    }
    return n < 0 ? kIoAgain : n;
  }
}

Connecting Proxy::connect(Conn& conn) {
  const int family = upstream_address_.family();
  const int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return Connecting::kFailed;
  if (family != AF_UNIX) set_no_delay(fd);
  const int rc = ::connect(fd, upstream_address_.get(), upstream_address_.size);
  if (rc != 0 && errno != EINPROGRESS) {
    ::close(fd);
    return Connecting::kFailed;
  }
  Socket* socket = open_socket(fd, &conn);
  socket->on_demand = family == AF_UNIX;
  conn.io = socket;
  loop_.add(fd, socket->on_demand ? kEvents : kEvents | EPOLLOUT, socket);
  arm_tick();
  return rc == 0 ? Connecting::kConnected : Connecting::kInProgress;
}

void Proxy::shutdown_write(Conn& conn) { ::shutdown(static_cast<Socket*>(conn.io)->fd, SHUT_WR); }

// The kernel forgets this again, so it is said each time.
void Proxy::acknowledge(Conn& conn) {
  const Socket& socket = *static_cast<Socket*>(conn.io);
  if (socket.on_demand) return;  // a Unix socket
  const int one = 1;
  setsockopt(socket.fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
}

void Proxy::close(Conn& conn, bool reset) {
  Socket& socket = *static_cast<Socket*>(conn.io);
  loop_.remove(socket.fd, &socket);
  if (reset) {
    const linger now{1, 0};
    setsockopt(socket.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  ::close(socket.fd);
  socket.fd = -1;
  socket.conn = nullptr;
  free_sockets_.push_back(&socket);
}

void Proxy::set_upstream(const Address& address) {
  const bool same = address.size == upstream_address_.size &&
                    std::memcmp(&address.storage, &upstream_address_.storage, address.size) == 0;
  upstream_address_ = address;
  if (same) return;
  engine_.set_now(loop_.now_ns());
  engine_.note_upstream_moved();
  if (engine_.has_ready()) schedule_turn(0);
}

void Proxy::resume(Ticket ticket) {
  engine_.resume(ticket);
  if (engine_.has_ready()) schedule_turn(0);
}

// A timer, because it can be cancelled: the proxy may go before the turn ends.
void Proxy::schedule_turn(int64_t delay_ns) {
  if (turn_timer_ != 0 || stopped_) return;
  turn_timer_ = loop_.at_ns(loop_.now_ns() + delay_ns, [this] { end_of_turn(); });
}

void Proxy::end_of_turn() {
  turn_timer_ = 0;
  engine_.set_now(loop_.now_ns());
  engine_.run_ready();
  if (engine_.has_ready()) schedule_turn(1);  // after the next look at the sockets
  if (draining_ && engine_.empty()) finish_drain();
}

void Proxy::arm_tick() {
  if (tick_timer_ == 0 && !stopped_ && (engine_.has_connections() || !turned_away_.empty())) {
    tick_timer_ = loop_.after_ms(kTickMs, [this] { on_tick(); });
  }
}

void Proxy::on_tick() {
  tick_timer_ = 0;
  engine_.set_now(loop_.now_ns());
  engine_.tick();
  close_turned_away(kTurnedAwayMax, loop_.now_ns());
  if (engine_.has_ready()) schedule_turn(0);
  arm_tick();
}

void Proxy::wind_down() {
  if (draining_ || stopped_) return;
  engine_.set_now(loop_.now_ns());
  engine_.drain(true);
  schedule_turn(0);
}

void Proxy::drain(std::function<void()> done) {
  if (draining_ || stopped_) return;
  draining_ = true;
  drained_ = std::move(done);
  // Who is connected, for all that he knows, would get a reset.
  for (int left = options_.listen_backlog; left > 0 && accept_some(); left -= kAcceptsPerTurn) continue;
  close_listener();
  engine_.set_now(loop_.now_ns());
  engine_.drain();
  drain_timer_ = loop_.after_ms(options_.drain_ms, [this] {
    engine_.set_now(loop_.now_ns());
    engine_.close_all();
    schedule_turn(0);
  });
  schedule_turn(0);
}

void Proxy::finish_drain() {
  loop_.cancel(drain_timer_);
  auto done = std::move(drained_);
  drained_ = nullptr;
  if (done) done();
}

void Proxy::stop() {
  if (stopped_) return;
  close_listener();
  engine_.set_now(loop_.now_ns());
  engine_.close_all();
  close_turned_away(0, 0);
  stopped_ = true;
  for (const auto timer : {turn_timer_, tick_timer_, drain_timer_}) loop_.cancel(timer);
}

}  // namespace tallygate::proxy
