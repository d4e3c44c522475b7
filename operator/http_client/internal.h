// What both implementations share; internal to the clients.
#pragma once

#include <openssl/types.h>

#include <optional>
#include <string>

#include "core/env.h"
#include "operator/http_client/http_client.h"

namespace tallygate::http_client_internal {

struct Target {
  std::string origin;    // "https://host:8443"; the only part of a URL that goes into messages
  std::string resource;  // "/path?query"
};
// "host" or "[::1]", and ":8443" or nothing.
std::pair<std::string, std::string> host_and_port(const Target& target);
// Refuses what must not be sent (kInvalid).
Result<Target> check(const HttpRequest& request);

// Trusts the given authorities alone, none on an error; TLS 1.2 and newer.
Result<void> load_tls(const HttpClientOptions& options, SSL_CTX* context);

// The time that a call has left, by the rule of HttpRequest::timeout_ms.
class Deadline {
 public:
  explicit Deadline(const HttpRequest& request)
      : timeout_ms_(request.timeout_ms), restarts_(request.on_body != nullptr), due_ms_(now_ms() + timeout_ms_) {}
  void heard() {
    if (restarts_) due_ms_ = now_ms() + timeout_ms_;
  }
  int64_t left_ms() const { return due_ms_ - now_ms(); }

 private:
  static int64_t now_ms() { return system_env().mono_ms(); }
  int64_t timeout_ms_;
  bool restarts_;
  int64_t due_ms_;
};

// Takes a response's body, piece by piece.
class BodySink {
 public:
  enum class Outcome : uint8_t { kGoOn, kEnough, kTooLarge };
  BodySink(const HttpRequest& request, size_t bytes_max) : request_(request), bytes_max_(bytes_max) {}
  Outcome take(int status, std::string_view piece, std::string& body) const;

 private:
  const HttpRequest& request_;
  size_t bytes_max_;
};

tl::unexpected<Error> too_large(const Target& target);
tl::unexpected<Error> too_late(const Target& target, const HttpRequest& request);
tl::unexpected<Error> stopped(const Target& target);
// A repeated field's values are joined by ", ", as RFC 9110 allows.
void add_header(HttpHeaders& headers, std::string_view name, std::string_view value);

}  // namespace tallygate::http_client_internal
