// From a request to its handler: request id, credentials, tenant, scope, rate limit, idempotency key; and the answer's
// headers. Every answer carries X-Request-Id.
//
// Any thread.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "core/http/router.h"
#include "operator/api/call.h"
#include "operator/api/jwt.h"
#include "operator/api/rate_limiter.h"
#include "operator/api/service_tokens.h"

namespace tallygate::api {

struct Credentials {
  std::optional<JwtKeys> jwt_keys;  // absent: no JWT is taken
  JwtRules jwt_rules;
  ServiceTokens service_tokens;
};

struct FrontOptions {
  Credentials credentials;
  RateLimit rate_limit;
  size_t rate_limited_tenants_max = 10'000;
};

struct FrontStats {
  std::atomic<uint64_t> unauthenticated{0}, forbidden{0}, rate_limited{0};
};

class Front {
 public:
  Front(Services services, FrontOptions options);
  // Adds every route of the API, and GET /openapi.yaml. The router must not outlive this.
  void add_routes(http::Router& router);
  const FrontStats& stats() const { return stats_; }

 private:
  http::Response serve(const ApiRoute& route, const http::Request& request);
  http::Response answer(const ApiRoute& route, const http::Request& request, const std::string& request_id);
  // The caller, or nothing: `why` is for logs.
  std::optional<Principal> authenticate(const http::Request& request, const Snapshot* snapshot, std::string& why) const;
  // The tenant to act for; else the refusal.
  tl::expected<std::string, http::Response> choose_tenant(const http::Request& request, const Principal& principal);

  Services services_;
  const FrontOptions options_;
  RateLimiter limiter_;
  FrontStats stats_;
};

// The document that is served as /openapi.yaml.
std::string_view openapi_document();

}  // namespace tallygate::api
