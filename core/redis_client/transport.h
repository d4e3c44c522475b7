// A non-blocking byte stream to Redis: plain TCP, a Unix socket, or TLS (OpenSSL over memory buffers). Resolves host
// names on a thread of its own, so that the loop never waits for DNS. Used by redis_client, and by the sidecar's client of
// the ledger.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/io/event_loop.h"
#include "core/redis_client/url.h"

namespace tallygate::redis {

class Transport final : public EventLoop::Watcher {
 public:
  struct Events {
    std::function<void()> on_open;  // connected, and TLS agreed
    std::function<void(const char* data, size_t size)> on_data;
    std::function<void(const std::string& why)> on_close;  // once; the transport is closed already
  };
  Transport(EventLoop& loop, const Endpoint& endpoint, Events events);
  ~Transport();

  void open();
  // Silent: no on_close. Waits for nothing: a name that is still being resolved is so for the next open() too.
  void close();
  void write(std::string_view bytes);

 private:
  struct Tls;
  struct Resolving;
  void on_ready(uint32_t events) override;
  void resolve();
  void connect_to(const void* address, unsigned size, int family);
  void connected();
  void read_some();
  void tls_turn();
  void tls_failed(int result);
  void flush();
  void lost(const std::string& why);
  std::string errno_text(const char* what) const;

  EventLoop& loop_;
  const Endpoint& endpoint_;
  Events events_;
  int fd_ = -1;
  bool connecting_ = false;
  uint32_t armed_ = 0;
  std::string out_;
  std::unique_ptr<Tls> tls_;
  std::shared_ptr<Resolving> resolving_;
  bool wants_address_ = false;
  size_t attempts_ = 0;  // each tries the next one of a name's addresses
};

}  // namespace tallygate::redis
