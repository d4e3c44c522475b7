// An embedded HTTP/1.1 server: the admin ports and the public API, and the peer in tests of clients.
//
// A connection belongs to one I/O thread for its whole life. Its requests are parsed and checked there (core/http1
// says what is refused before a handler sees it), get their turn in the order of arrival (turns.h), one at a time per
// connection, and are answered from there. Handlers run on worker threads, where they may block, or on the I/O thread,
// where they may not, and then answer when they can (router.h). Everything has a limit, see ServerOptions.
//
//   auto server = http::Server::start({.host = "127.0.0.1"}, std::move(router), env);
//   if (!server) return server.error();
//   … (*server)->port() …
//   (*server)->drain(5'000);
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/env.h"
#include "core/http/address.h"
#include "core/http/router.h"
#include "core/result.h"

namespace tallygate::http {

// PEM files. Without a certificate the server speaks plain HTTP. With one it speaks TLS 1.2 and 1.3, HTTP/1.1 by ALPN;
// who talks plain HTTP to it is told so, in plain HTTP.
struct TlsFiles {
  std::string certificate_file;  // with the chain
  std::string key_file;
};

// How a request went; for metrics and access logs.
struct Completed {
  std::string_view method;  // "OTHER" for methods that no standard knows
  std::string_view route;   // the pattern; empty where none matched
  int status = 0;
  int64_t duration_ns = 0;  // from the complete head to the response being ready to send
};

struct ServerOptions {
  std::string host;   // empty: every address, IPv6 and IPv4
  uint16_t port = 0;  // 0: the kernel chooses
  TlsFiles tls = {};
  int io_threads = 1;
  int worker_threads = 4;        // also how many requests are at work at once: from their turn to their answer
  size_t queue_max = 1024;       // requests that wait for their turn; more are answered 503
  int64_t queue_timeout_ms = 0;  // what has waited longer is answered 503 when its turn comes; 0: never
  // Requests of one lane are served in their order, lanes in turn. On an I/O thread; must be quick. Absent: one lane.
  std::function<uint64_t(const Request&)> lane_of = nullptr;
  size_t running_per_lane_max = SIZE_MAX;  // at work at once
  // Where all are taken, or those of one address (IPv6: of one /64), the connection goes that has waited longest for a
  // request; where none waits, the new one is answered 503 and closed. `connections_kept` more are for probes alone
  // (RouteRules).
  size_t connections_max = 4096;
  size_t connections_per_address_max = SIZE_MAX;
  size_t connections_kept = 0;
  // Proxies whose X-Forwarded-For is believed: a request from one is its client's, in Request::peer and in its number;
  // their own connections count for no address.
  std::vector<Network> trusted_proxies = {};
  // Each request has an id: 32 hex digits of ours, which nobody can choose, and after a dot the X-Request-Id that it
  // brings along, where that is a token of at most 128 bytes. Every answer says it, whoever made it, and so does the
  // body of a problem (requestId).
  bool request_ids = false;
  size_t head_bytes_max = 16 * 1024;
  size_t body_bytes_max = 1024 * 1024;         // where the route says nothing else
  size_t bodies_bytes_max = 64 * 1024 * 1024;  // of all together, small ones aside; past it they are answered 503
  int64_t idle_timeout_ms = 60'000;            // between requests
  int64_t head_timeout_ms = 10'000;   // for the whole head; of the first one from the connection's first moment on
  int64_t body_timeout_ms = 30'000;   // for the whole body
  int64_t write_timeout_ms = 30'000;  // for the whole response
  // Called after each request, on an I/O thread; must be quick.
  std::function<void(const Completed&)> on_completed = nullptr;
};

struct ServerStats {
  uint64_t connections_open = 0, connections_total = 0, connections_refused_total = 0;
  uint64_t connections_gave_way_total = 0;
  uint64_t bodies_bytes = 0;
  uint64_t requests_total = 0, requests_malformed_total = 0, requests_overload_total = 0;
  uint64_t handshakes_failed_total = 0;
  uint64_t queue_length = 0;
};

class Server {
 public:
  // Listens before it returns. `env` must outlive the server.
  static Result<std::unique_ptr<Server>> start(ServerOptions options, Router router, Env& env);
  ~Server();  // drain(0)
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  uint16_t port() const;
  // "127.0.0.1:8080", "[::]:8080".
  std::string address() const;
  ServerStats stats() const;

  // Reads the certificate and the key again, for new connections. On an error the old ones stay in use.
  Result<void> reload_tls();

  // Stops listening, closes idle connections, lets requests under way end with "Connection: close", at most `grace_ms`;
  // then closes what is left and ends the threads (a handler that is still running, or owes its reply, is waited for).
  // Idempotent. Not from a handler.
  void drain(int64_t grace_ms);

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tallygate::http
