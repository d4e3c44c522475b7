#include "operator/api/front.h"

#include <algorithm>

#include "core/http/address.h"
#include "core/ids.h"
#include "core/telemetry/log.h"
#include "core/utf8.h"
#include "operator/api/text.h"

namespace tallygate::api {
namespace {

constexpr char kTenantHeader[] = "tallygate-tenant";
// For callers behind a proxy that keeps Authorization to itself, as a Kubernetes API server's does.
constexpr char kProxiedAuthorization[] = "x-tallygate-authorization";
// For whom a service token of scope admin acts: told in the audit log behind the token's name, on the token's word.
constexpr char kActorHeader[] = "x-tallygate-actor";
constexpr size_t kActorBytesMax = 200;
constexpr size_t kQuickBodyBytesMax = 4096;

http::Response unauthorized() {
  return http::problem_response({401, "Unauthenticated", "A valid bearer token is needed.", "", {}},
                                {{"WWW-Authenticate", "Bearer"}});
}

http::Response forbidden(ReasonName reason, std::string detail) {
  return http::problem_response({403, reason, std::move(detail), "", {}});
}

void not_to_be_kept(http::Response& response) { response.headers.emplace_back("Cache-Control", "no-store"); }

tl::unexpected<http::Response> refuse(http::Response response) {
  return tl::unexpected<http::Response>(std::move(response));
}

// A body that two readers could take for two things, or that is compressed.
std::optional<http::Response> refuse_media(const http::Request& request) {
  if (request.header_count("content-type") > 1) {
    return http::problem_response({415, "UnsupportedMediaType", "Content-Type must be given once.", "", {}});
  }
  if (request.header_count("content-encoding") > 0) {
    return http::problem_response({415, "UnsupportedMediaType", "No Content-Encoding is taken.", "", {}},
                                  {{"Accept-Encoding", "identity"}});
  }
  return std::nullopt;
}

http::Response rate_limited(int64_t wait_ms, std::string detail) {
  return http::problem_response({429, "RateLimited", std::move(detail), "", {}},
                                {{"Retry-After", std::to_string((wait_ms + 999) / 1000)}});
}

// What one client is counted by: of IPv6 its /64.
std::string client_key(const std::string& peer) {
  const auto address = parse_address(peer);
  if (!address) return peer;
  const http::AddressKey key(*address);
  return std::to_string(key.high) + ':' + std::to_string(key.low);
}

Share share_of(const ApiRoute& route, const Principal& principal) {
  if (route.scope == Scope::kLeaseWrite) return Share::kLeases;
  if (principal.is_user) return Share::kUsers;
  return std::string_view(route.pattern) == "/v1/status-check" ? Share::kStatus : Share::kServices;
}

// Whether it commits or releases what a provider's reports settle: their word outranks the tenant's.
bool settles_provider_call(const Providers& providers, const ApiRoute& route, const http::Request& request) {
  if (route.scope != Scope::kWalletWrite) return false;
  const std::string_view id = request.param("call_id");
  const size_t colon = id.find(':');
  return colon != std::string_view::npos && providers.find(id.substr(0, colon)) != nullptr;
}

http::Response not_ready() {
  return http::problem_response({503, "NotReady", "The manifests are not loaded yet. Repeat the request.", "", {}},
                                {{"Retry-After", "1"}});
}

}  // namespace

uint64_t lane_of(const http::Request& request) {
  const std::hash<std::string_view> hash;
  std::string_view authorization = request.header("authorization");
  if (authorization.empty()) authorization = request.header(kProxiedAuthorization);
  return hash(authorization.empty() ? std::string_view(request.path) : authorization) * 31 +
         hash(request.header(kTenantHeader));
}

Front::Front(Services services, const CredentialStore& credentials, FrontOptions options)
    : services_(services),
      credentials_(credentials),
      options_(std::move(options)),
      shares_(options_.rate_limit, options_.rate_limited_tenants_max),
      signatures_(options_.signatures, options_.rate_limited_tenants_max) {}

void Front::add_routes(http::Router& router) {
  for (const ApiRoute& route : api_routes()) {
    const http::RouteRules rules{
        .body_bytes_max = route.scope ? options_.body_bytes_max : kProviderBodyBytesMax,
        .is_for_strangers = !route.scope,
        .check_head = [this, &route](const http::Request& request) { return check_head(route, request); }};
    if (route.handler.async != nullptr) {
      router.add_async(
          route.method, route.pattern,
          [this, &route](const http::Request& request, http::Reply reply) {
            serve_async(route, request, std::move(reply));
          },
          rules);
    } else {
      router.add(
          route.method, route.pattern, [this, &route](const http::Request& request) { return serve(route, request); },
          rules);
    }
  }
  router.add("GET", "/openapi.yaml", [](const http::Request&) {
    return http::Response{200, std::string(openapi_document()), "application/yaml", {}};
  });
}

http::Response Front::serve(const ApiRoute& route, const http::Request& request) {
  auto call = route.scope ? admit(route, request) : admit_stranger(route, request);
  http::Response response = call ? route.handler.blocking(*call) : std::move(call.error());
  not_to_be_kept(response);
  return response;
}

void Front::serve_async(const ApiRoute& route, const http::Request& request, http::Reply reply) {
  if (request.body.size() <= kQuickBodyBytesMax) return begin(route, request, std::move(reply));
  // Reading it would hold up the thread's other connections.
  const auto owned = std::make_shared<http::Reply>(std::move(reply));
  owned->on_worker([this, &route, &request, owned] { begin(route, request, std::move(*owned)); });
}

void Front::begin(const ApiRoute& route, const http::Request& request, http::Reply reply) {
  auto call = admit(route, request);
  if (call) return route.handler.async(std::make_shared<AsyncCall>(std::move(*call), std::move(reply)));
  not_to_be_kept(call.error());
  reply(std::move(call.error()));
}

void AsyncCall::answer(http::Response response) {
  not_to_be_kept(response);
  reply(std::move(response));
}

bool AsyncCall::moves_to_worker(AsyncCallHandler handler) {
  if (std::exchange(on_worker, true)) return false;
  reply.on_worker([self = shared_from_this(), handler] { handler(self); });
  return true;
}

Result<std::shared_ptr<const Principal>> Front::authenticate(const http::Request& request, const Snapshot* snapshot) {
  const auto refused = [](const char* why) { return fail(Errc::kInvalid, why); };
  const bool proxied = request.header_count("authorization") == 0;
  const char* name = proxied ? kProxiedAuthorization : "authorization";
  const std::string_view header = request.header(name);
  if (request.header_count(name) != 1 || header.size() < 8) {
    return refused("no Authorization header, or several");
  }
  std::string scheme(header.substr(0, 7));
  std::transform(scheme.begin(), scheme.end(), scheme.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  const std::string_view token = header.substr(7);
  const auto credentials = credentials_.current();
  if (scheme != "bearer " || token.find(' ') != std::string_view::npos) return refused("no bearer token");
  if (token.starts_with(kServiceTokenPrefix)) {
    const Principal* known = credentials->service_tokens.find(token);
    if (known == nullptr) return refused("unknown service token");
    const std::string_view actor = request.header(kActorHeader);
    if (actor.empty() || !known->has(Scope::kAdmin)) {
      return std::shared_ptr<const Principal>{credentials, known};
    }
    Principal acting = *known;
    acting.actor += " for " + std::string(is_clean_text(actor) ? cut_utf8(actor, kActorBytesMax) : "?");
    return std::make_shared<const Principal>(std::move(acting));
  }
  if (!credentials->jwt_keys) return refused("no JWT is taken here");
  const auto budget = [&] { return signatures_.take(client_key(request.peer), services_.env.mono_ns()) == 0; };
  const auto claims = verify_jwt(token, *credentials->jwt_keys, credentials->jwt_rules, services_.env.wall_s(), budget);
  if (!claims) return tl::unexpected(claims.error());
  Principal principal;
  principal.is_user = true;
  principal.actor =
      "jwt:" + (is_clean_text(claims->subject) ? std::string(cut_utf8(claims->subject, kActorBytesMax)) : "");
  for (const auto& scope : claims->scopes) principal.scopes |= scope_bit(scope);
  const std::string* tenant = snapshot != nullptr && !claims->external_id.empty()
                                  ? snapshot->tenant_of_external_id(claims->external_id)
                                  : nullptr;
  if (tenant != nullptr) principal.tenants.push_back(*tenant);
  return std::make_shared<const Principal>(std::move(principal));
}

tl::expected<std::string, http::Response> Front::choose_tenant(const http::Request& request,
                                                               const Principal& principal) {
  const auto refused = [this](http::Response response) -> tl::expected<std::string, http::Response> {
    stats_.forbidden.fetch_add(1, std::memory_order_relaxed);
    return tl::unexpected<http::Response>(std::move(response));
  };
  if (request.header_count(kTenantHeader) == 0) {
    if (principal.tenants.size() == 1 && !principal.all_tenants) return principal.tenants.front();
    if (principal.tenants.empty() && !principal.all_tenants) {
      return refused(forbidden("NoTenant", "The credentials belong to no tenant that is known."));
    }
    return tl::unexpected<http::Response>(
        faulty_fields({{"Tallygate-Tenant", "is required: the token serves several tenants"}}));
  }
  const std::string wanted(request.header(kTenantHeader));
  if (request.header_count(kTenantHeader) > 1 || !TenantId::parse(wanted)) {
    return tl::unexpected<http::Response>(faulty_fields({{"Tallygate-Tenant", "must be namespace/name, once"}}));
  }
  // The same answer whether such a tenant exists or not.
  if (!principal.may_act_for(wanted))
    return refused(forbidden("TenantNotAllowed", "The credentials do not reach this tenant."));
  return wanted;
}

tl::unexpected<http::Response> Front::unauthenticated(const http::Request& request, const std::string& why,
                                                      http::Response response) {
  stats_.unauthenticated.fetch_add(1, std::memory_order_relaxed);
  log::debug("credentials refused", {{"why", why}, {"peer", request.peer}, {"request_id", request.id}});
  return refuse(std::move(response));
}

std::optional<http::Response> Front::limit_rate(Share share, const std::string& tenant, const Principal& caller) {
  const int64_t wait_ms = shares_.take(share, tenant, caller.actor, services_.env.mono_ns());
  if (wait_ms <= 0) return std::nullopt;
  stats_.rate_limited.fetch_add(1, std::memory_order_relaxed);
  return rate_limited(wait_ms, "Too many requests of this caller, or of all callers of its tenant.");
}

tl::expected<const Provider*, http::Response> Front::prove(const Credentials& credentials,
                                                           const http::Request& request) {
  // One answer, at one moment, to whoever proves nothing: which providers there are is nobody's business.
  const Provider* provider = credentials.providers->find(request.param("provider"));
  std::string why = "no such provider";
  if (provider != nullptr && provider->adapter->authenticate(request, services_.env.wall_s(), why)) return provider;
  if (provider != nullptr) provider->count(EventResult::kUnauthenticated);
  return unauthenticated(request, why, http::problem_response({401, "Unauthenticated", "", "", {}}));
}

std::optional<http::Response> Front::check_provider_head(const http::Request& request) {
  const auto credentials = credentials_.current();
  const Provider* provider = credentials->providers->find(request.param("provider"));
  if (provider == nullptr || !provider->adapter->proves_by_head()) return std::nullopt;
  auto proven = prove(*credentials, request);
  return proven ? std::nullopt : std::optional(std::move(proven.error()));
}

std::optional<http::Response> Front::check_head(const ApiRoute& route, const http::Request& request) {
  std::optional<http::Response> refused;
  if (!route.scope) {
    if (route.stranger == Stranger::kProvider) refused = check_provider_head(request);
  } else if (auto caller = allow(route, request); !caller) {
    refused = std::move(caller.error());
  } else {
    refused = refuse_media(request);
  }
  if (refused) not_to_be_kept(*refused);
  return refused;
}

Front::Admitted Front::admit_stranger(const ApiRoute& route, const http::Request& request) {
  if (route.stranger == Stranger::kProvider) return admit_provider(request);
  return Call{services_,
              request,
              nullptr,
              "",
              "",
              request.id,
              services_.env.wall_ns(),
              request.received_ns / 1'000'000 + options_.deadline_ms,
              nullptr};
}

Front::Admitted Front::admit_provider(const http::Request& request) {
  const auto credentials = credentials_.current();  // they own the provider
  const auto proven = prove(*credentials, request);
  if (!proven) return refuse(proven.error());
  const Provider* provider = *proven;
  auto snapshot = services_.directory.snapshot();
  if (!snapshot) return refuse(not_ready());
  return Call{services_,
              request,
              {credentials, &provider->principal},
              "",
              "",
              request.id,
              services_.env.wall_ns(),
              request.received_ns / 1'000'000 + options_.deadline_ms,
              std::move(snapshot),
              false,
              provider,
              this};
}

tl::expected<Front::Caller, http::Response> Front::allow(const ApiRoute& route, const http::Request& request) {
  auto snapshot = services_.directory.snapshot();
  auto found = authenticate(request, snapshot.get());
  if (!found && found.error().errc == Errc::kExhausted) {
    stats_.rate_limited.fetch_add(1, std::memory_order_relaxed);
    return refuse(rate_limited(1000, "Too many new tokens from this address."));
  }
  if (!found) return unauthenticated(request, found.error().message, unauthorized());
  std::shared_ptr<const Principal> principal = std::move(*found);
  if (!snapshot) return refuse(not_ready());
  if (!principal->has(*route.scope)) {
    stats_.forbidden.fetch_add(1, std::memory_order_relaxed);
    return refuse(forbidden("ScopeMissing", "The token lacks the scope " + std::string(to_string(*route.scope)) + "."));
  }
  if (!principal->has(Scope::kAdmin) && settles_provider_call(*credentials_.current()->providers, route, request)) {
    stats_.forbidden.fetch_add(1, std::memory_order_relaxed);
    return refuse(forbidden("ScopeMissing",
                            "The provider that this call id begins with settles it by its reports. Else it wants the "
                            "scope admin."));
  }
  auto tenant = choose_tenant(request, *principal);
  if (!tenant) return refuse(std::move(tenant.error()));
  return Caller{std::move(principal), std::move(*tenant), std::move(snapshot)};
}

Front::Admitted Front::admit(const ApiRoute& route, const http::Request& request) {
  auto caller = allow(route, request);
  if (!caller) return refuse(std::move(caller.error()));
  const Share share = share_of(route, *caller->principal);
  if (auto refused = limit_rate(share, caller->tenant, *caller->principal)) return refuse(std::move(*refused));
  if (auto refused = refuse_media(request)) return refuse(std::move(*refused));
  Call call{services_,
            request,
            std::move(caller->principal),
            std::move(caller->tenant),
            "",
            request.id,
            services_.env.wall_ns(),
            request.received_ns / 1'000'000 + options_.deadline_ms,
            std::move(caller->snapshot),
            route.scope == Scope::kAdmin};
  if (route.wants_key) {
    const std::string_view key = request.header("idempotency-key");
    if (request.header_count("idempotency-key") != 1 || !is_key(key)) {
      return refuse(faulty_fields({{"Idempotency-Key", "is required: 1 to 255 visible ASCII characters, once"}}));
    }
    call.idempotency_key = key;
  }
  return call;
}

}  // namespace tallygate::api
