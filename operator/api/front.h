// From a request to its handler: credentials, scope, tenant, rate limit, idempotency key. Before the first manifests a
// caller with valid credentials gets a 503: nobody can say yet what it may do. Providers prove who they are by their
// adapter in place of a token, and their tenant is in the payload.
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
#include "operator/api/credentials.h"
#include "operator/api/rate_shares.h"

namespace tallygate::api {

// A provider's report may hold a whole conversation.
inline constexpr size_t kProviderBodyBytesMax = 1024 * 1024;

struct FrontOptions {
  RateLimit rate_limit;
  int64_t deadline_ms = 5'000;  // from a request's arrival
  size_t rate_limited_tenants_max = 10'000;
  size_t body_bytes_max = 256 * 1024;  // of all but providers' requests
  // Public keys' arithmetic for one client's address (IPv6: /64), on the thread of its connection. Tokens that come
  // again need none.
  RateLimit signatures = {1000, 2000};
};

struct FrontStats {
  std::atomic<uint64_t> unauthenticated{0}, forbidden{0}, rate_limited{0};
};

class Front {
 public:
  // `credentials` outlives it.
  Front(Services services, const CredentialStore& credentials, FrontOptions options);
  // Adds every route of the API, and GET /openapi.yaml. The router must not outlive this.
  void add_routes(http::Router& router);
  const FrontStats& stats() const { return stats_; }
  // Takes one from the share of the caller and of its tenant. Nothing where the request may go on, else the refusal.
  std::optional<http::Response> limit_rate(Share share, const std::string& tenant, const Principal& caller);

 private:
  using Admitted = tl::expected<Call, http::Response>;
  http::Response serve(const ApiRoute& route, const http::Request& request);
  void serve_async(const ApiRoute& route, const http::Request& request, http::Reply reply);
  void begin(const ApiRoute& route, const http::Request& request, http::Reply reply);
  // The call, or its refusal.
  Admitted admit(const ApiRoute& route, const http::Request& request);
  Admitted admit_provider(const http::Request& request);
  Admitted admit_stranger(const ApiRoute& route, const http::Request& request);
  // While the body is still to come: what can be refused by the head.
  std::optional<http::Response> check_head(const ApiRoute& route, const http::Request& request);
  std::optional<http::Response> check_provider_head(const http::Request& request);
  struct Caller {
    std::shared_ptr<const Principal> principal;
    std::string tenant;
    std::shared_ptr<const Snapshot> snapshot;
  };
  // Who it is, and that it may use the route for the tenant.
  tl::expected<Caller, http::Response> allow(const ApiRoute& route, const http::Request& request);
  // The path's provider, proven; else the refusal.
  tl::expected<const Provider*, http::Response> prove(const Credentials& credentials, const http::Request& request);
  tl::unexpected<http::Response> unauthenticated(const http::Request& request, const std::string& why,
                                                 http::Response response);
  // The caller, or why it is none: for logs.
  Result<std::shared_ptr<const Principal>> authenticate(const http::Request& request, const Snapshot* snapshot);
  // The tenant to act for; else the refusal.
  tl::expected<std::string, http::Response> choose_tenant(const http::Request& request, const Principal& principal);

  Services services_;
  const CredentialStore& credentials_;
  const FrontOptions options_;
  RateShares shares_;
  RateLimiter signatures_;  // by address
  FrontStats stats_;
};

// Requests of one caller are of one lane: its credentials as they were sent, and the tenant that it names. Providers
// have their own by their paths.
uint64_t lane_of(const http::Request& request);

// The document that is served as /openapi.yaml.
std::string_view openapi_document();

}  // namespace tallygate::api
