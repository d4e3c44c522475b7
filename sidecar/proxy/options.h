// How a Proxy behaves. Everything has a default that suits a sidecar; every wait and every buffer has a bound.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/http1/limits.h"

namespace tallygate::proxy {

struct Timeouts {                         // 0 is not "none": all are needed
  int64_t client_head_ms = 10'000;        // from a head's first byte (or, on a new connection, from accept) to its last
  int64_t client_idle_ms = 75'000;        // between requests
  int64_t client_body_idle_ms = 60'000;   // between bytes of a request's body
  int64_t client_write_idle_ms = 60'000;  // a client that takes no bytes of a response
  int64_t upstream_connect_ms = 5'000;
  int64_t upstream_head_ms = 300'000;  // from the request's last byte to the response's head; apps may be slow
  int64_t upstream_idle_ms = 300'000;  // between bytes of a response, or an app that takes none of a request
  int64_t upstream_pooled_ms = 4'000;  // an idle connection: less than the 5 s after which Node or uvicorn close
  int64_t expect_continue_ms = 1'000;  // then the proxy says 100 Continue in the app's place
  int64_t linger_idle_ms = 2'000;  // an answered client that still sends: in each such time 1 KiB a second must come
  int64_t linger_ms = 30'000;      // and after this it is cut, whatever comes
};

enum class Reason : uint8_t;  // problem.h

// A request that the proxy itself refuses or fails, as it is about to be answered. Refers to texts of the call.
struct Refusal {
  Reason reason;
  std::string_view detail;      // empty: the reason's
  std::string_view request_id;  // empty: the head could not be read
  std::string_view client;      // its address; may be empty
};

struct Options {
  // Where to listen: "0.0.0.0:8443", "[::]:15006", "127.0.0.1:0", ":8080", every address, or a name; and the app: an address,
  // a name, or "unix:/path".
  std::string listen = "127.0.0.1:0";
  std::string upstream;
  bool reuse_port = false;  // several proxies, one a thread, on one port
  int listen_backlog = 4096;

  http1::Limits limits;
  Timeouts timeouts;
  size_t client_connections_max = 10'000;       // for one more the longest idle goes; if none is, it is answered 503
  size_t connections_per_address_max = 5'000;   // the same among those of one address, IPv6 by /64. 0: no limit
  size_t upstream_connections_max = 10'000;     // a request that needs one more is answered 503
  size_t upstream_pooled_max = 256;             // idle ones kept
  size_t waiting_requests_max = 1'000;          // held by the gate; one more is answered 503
  size_t collected_bytes_max = 64 << 20;        // of request bodies that the gate wants to see first, in all; then 503
  size_t buffer_high_bytes = 64 * 1024;         // unsent bytes of one connection at which its source is no longer read
  size_t buffer_low_bytes = 16 * 1024;          // and at which it is read again
  uint64_t discard_body_bytes_max = 64 * 1024;  // rest of a request's body read to save the connection, else closed
  uint64_t request_body_bytes_max = 0;          // payload; beyond: 413. 0: no limit
  uint64_t upload_bytes_per_second_min = 0;     // a slower body is answered 408. 0: client_body_idle_ms alone counts
  size_t interim_bytes_max = 256 * 1024;        // heads of 1xx before one final response; beyond: 502
  int interim_per_second_max = 100;             // and how many in a second; beyond: 502
  // Whether an idempotent request that met a pooled connection as the app closed it is sent once more, though the app
  // may have acted upon it. One of which nothing was sent goes to a fresh connection in any case.
  bool resend = true;

  bool forwarded_for = true;     // append the client's address to X-Forwarded-For
  bool forwarded_proto = true;   // add X-Forwarded-Proto: http where there is none
  bool trust_request_id = true;  // keep a client's X-Request-Id if it is valid and at most 64 bytes
  // A Via pseudonym for both directions. Empty, the default, adds none: a sidecar is part of its app's server.
  std::string via;
  std::vector<std::string> gate_response_headers;  // lower case: where the gate sets any, the app sets none of them

  std::function<void(const Refusal&)> on_refusal;  // for the log: cheap, and calls nothing of the proxy
  int64_t drain_ms = 30'000;  // then what is still in flight is cut
};

}  // namespace tallygate::proxy
