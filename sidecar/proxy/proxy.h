// The reverse proxy in front of one app: Engine on real sockets and an EventLoop.
//
//   auto proxy = Proxy::create(loop, options, gate);   // binds nothing
//   (*proxy)->start();                                 // binds and listens
//   loop.run();
//   …  (*proxy)->drain([&] { loop.stop(); });          // stop accepting, finish, close
//
// Threading: everything on the loop's thread, counters() on any. Several proxies, each with a loop and a gate of its
// own, share a port by Options::reuse_port. The loop and the gate outlive the proxy.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/io/event_loop.h"
#include "core/result.h"
#include "sidecar/proxy/address.h"
#include "sidecar/proxy/engine.h"

namespace tallygate::proxy {

class Proxy final : private Transport {
 public:
  // May block while the name in Options::listen is looked up. An upstream's name is not: set_upstream() tells.
  static Result<std::unique_ptr<Proxy>> create(EventLoop& loop, Options options, Gate& gate);
  ~Proxy();
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  Result<void> start();
  // Once started: "127.0.0.1:41234", and its port.
  std::string bound_address() const { return bound_address_; }
  uint16_t port() const { return port_; }

  // Where new connections to the app go. Until then an app that Options::upstream has by name is unreachable.
  // Connections to another address are used for no further request.
  void set_upstream(const Address& address);

  // Asks the gate again about a request that waits; see gate.h.
  void resume(Ticket ticket);
  // Before drain(): clients are told to come back on other connections, which may lead elsewhere; new ones are served.
  void wind_down();
  // Stops accepting and ends idle connections; `done` runs once when the last is closed, at the latest after
  // Options::drain_ms, when what is left is cut. Idempotent: only the first `done` counts.
  void drain(std::function<void()> done);
  bool draining() const { return draining_; }
  // Cuts everything at once. Idempotent.
  void stop();

  const Counters& counters() const { return engine_.counters(); }

 private:
  struct Socket;
  struct Listener final : EventLoop::Watcher {
    explicit Listener(Proxy& proxy) : proxy(proxy) {}
    void on_ready(uint32_t events) override;
    Proxy& proxy;
  };

  Proxy(EventLoop& loop, Options options, std::vector<Address> listen, Address upstream, Gate& gate);
  Result<void> start_on(const Address& address);

  ssize_t read(Conn& conn, char* data, size_t size) override;
  ssize_t write(Conn& conn, const iovec* parts, int count) override;
  Connecting connect(Conn& conn) override;
  void shutdown_write(Conn& conn) override;
  void acknowledge(Conn& conn) override;
  void close(Conn& conn, bool reset) override;

  Socket* open_socket(int fd, Conn* conn);
  void on_socket(Socket& socket, uint32_t events);
  bool accept_some();
  void pause_accepting();
  void turn_away(int fd);
  void close_turned_away(size_t keep, int64_t now_ns);
  void close_listener();
  void schedule_turn(int64_t delay_ns);
  void end_of_turn();
  void arm_tick();
  void on_tick();
  void finish_drain();

  EventLoop& loop_;
  const Options options_;
  const std::vector<Address> listen_addresses_;  // the first that works
  Address upstream_address_;
  Listener listener_;
  int listen_fd_ = -1;
  std::string bound_address_;
  uint16_t port_ = 0;
  std::vector<std::unique_ptr<Socket>> sockets_;
  std::vector<Socket*> free_sockets_;
  struct TurnedAway {
    int fd;
    int64_t until_ns;
  };
  std::deque<TurnedAway> turned_away_;  // told that there is no room, the first first
  bool draining_ = false, stopped_ = false;
  std::function<void()> drained_;
  EventLoop::TimerId turn_timer_ = 0, tick_timer_ = 0, drain_timer_ = 0, accept_timer_ = 0;
  Engine engine_;  // last: it closes connections through the above when it goes
};

}  // namespace tallygate::proxy
