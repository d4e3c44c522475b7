// One request on its way through the API: who it is for, what serves it. The route table is the one list of what
// exists.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "core/env.h"
#include "core/exchange.h"
#include "core/http/message.h"
#include "core/http/reply.h"
#include "operator/api/combiner.h"
#include "operator/api/directory.h"
#include "operator/api/fields.h"
#include "operator/api/operation_metrics.h"
#include "operator/api/pool.h"
#include "operator/api/principal.h"
#include "operator/escrow/recall.h"

namespace tallygate::stripe {
struct Payments;
}

namespace tallygate::api {

class Front;
struct Provider;

// What handlers use; outlives the server.
struct Services {
  Env& env;
  Pool& pool;
  Pool& admin_pool;  // for Call::as_admin
  Combiner& wallet_operations;
  Combiner& status_checks;
  Directory& directory;
  escrow::Recaller& recaller;
  const ExchangeRates& rates;
  int64_t quote_lifetime_ms = 0;
  const OperationMetrics& metrics;
  stripe::Payments* payments = nullptr;  // none where Stripe is disabled
};

struct Call {
  Services& services;
  const http::Request& request;
  std::shared_ptr<const Principal> principal;  // of Stripe's events there is none, and no snapshot
  std::string tenant;           // namespace/name; the principal may act for it
  std::string idempotency_key;  // set where the route wants one
  std::string request_id;
  int64_t now_ns = 0;
  int64_t until_ms = 0;  // monotonic: all its work in the database ends by then
  std::shared_ptr<const Snapshot> snapshot;
  bool as_admin = false;               // writes that only tallygate_admin may make
  const Provider* provider = nullptr;  // set where it is the caller; `tenant` is then the handler's to find …
  Front* front = nullptr;              // … and to ask this for its share
};

// A call that is answered later, and lives until then.
struct AsyncCall;
using AsyncCallPtr = std::shared_ptr<AsyncCall>;
using AsyncCallHandler = void (*)(const AsyncCallPtr&);
struct AsyncCall : Call, std::enable_shared_from_this<AsyncCall> {
  AsyncCall(Call call, http::Reply to) : Call(std::move(call)), reply(std::move(to)) {}
  // Once, from any thread.
  void answer(http::Response response);
  // For what has to block: true where `handler` will run once more, on a worker; false where that is so already.
  bool moves_to_worker(AsyncCallHandler handler);

  http::Reply reply;
  bool on_worker = false;
};

// One that may block, on a worker; or one that must not, on the connection's I/O thread.
struct CallHandler {
  constexpr CallHandler(http::Response (*handler)(Call&)) : blocking(handler) {}
  constexpr CallHandler(AsyncCallHandler handler) : async(handler) {}
  http::Response (*blocking)(Call&) = nullptr;
  AsyncCallHandler async = nullptr;
};

// Who proves what it is by other means than a token.
enum class Stranger : uint8_t {
  kProvider,  // the path's {provider}, as its adapter says
  kStripe     // its handler sees to it
};

struct ApiRoute {
  const char* method;
  const char* pattern;
  std::optional<Scope> scope;  // absent: the caller is a stranger
  bool wants_key;              // Idempotency-Key
  CallHandler handler;
  Stranger stranger = Stranger::kProvider;
};
std::span<const ApiRoute> api_routes();

// SHA-256 of what the request is about: operation, path parameters and body.
std::string fingerprint_of(const Call& call, const Fields& fields);

// Runs `body` for the call's tenant: row-level security shows it nothing else.
Result<void> as_tenant(Call& call, const std::function<Result<void>(ledger::Transaction&)>& body);
Result<ledger::Rows> select_as_tenant(Call& call, const std::string& sql, const ledger::Params& params);

// Nothing is null.
template <class T>
ledger::Param nullable(const std::optional<T>& value) {
  return value ? ledger::Param(*value) : ledger::Param(std::nullopt);
}

// What the client is told of an error of ours: nothing of the database's. Logged here.
http::Response failure_response(const Call& call, const Error& error);
// Of the snapshot: the credentials reach a tenant that no manifest names.
http::Response unknown_tenant();

// Handlers.
http::Response get_wallet(Call& call);
http::Response list_transactions(Call& call);
http::Response create_quote(Call& call);
http::Response get_quote(Call& call);
void create_deduction(const AsyncCallPtr& call);
http::Response create_adjustment(Call& call);
void create_reservation(const AsyncCallPtr& call);
http::Response list_reservations(Call& call);
http::Response get_reservation(Call& call);
void commit_reservation(const AsyncCallPtr& call);
void release_reservation(const AsyncCallPtr& call);
void check_status(const AsyncCallPtr& call);
http::Response check_gate(Call& call);
http::Response get_usage(Call& call);
http::Response get_usage_history(Call& call);
http::Response get_usage_projection(Call& call);
http::Response record_usage(Call& call);
http::Response correct_usage(Call& call);
http::Response record_events(Call& call);
http::Response receive_provider_event(Call& call);
http::Response create_topup(Call& call);
http::Response get_topup(Call& call);
http::Response create_portal_session(Call& call);
http::Response receive_stripe_event(Call& call);
http::Response lease_units(Call& call);

}  // namespace tallygate::api
