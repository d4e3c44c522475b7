// The route table, and what all handlers share.
#include <algorithm>

#include "core/telemetry/log.h"
#include "operator/api/call.h"
#include "operator/api/service_tokens.h"

namespace tallygate::api {
namespace {

constexpr ApiRoute kRoutes[] = {
    {"GET", "/v1/wallet", Scope::kWalletRead, false, get_wallet},
    {"GET", "/v1/wallet/transactions", Scope::kWalletRead, false, list_transactions},
    {"POST", "/v1/wallet/adjustments", Scope::kAdmin, true, create_adjustment},
    {"POST", "/v1/wallet/topups", Scope::kWalletWrite, true, create_topup},
    {"GET", "/v1/wallet/topups/{topup_id}", Scope::kWalletRead, false, get_topup},
    {"POST", "/v1/portal/sessions", Scope::kWalletWrite, false, create_portal_session},
    {"POST", "/v1/quotes", Scope::kWalletWrite, true, create_quote},
    {"GET", "/v1/quotes/{quote_id}", Scope::kWalletRead, false, get_quote},
    {"POST", "/v1/deductions", Scope::kWalletWrite, true, create_deduction},
    {"GET", "/v1/reservations", Scope::kWalletRead, false, list_reservations},
    {"POST", "/v1/reservations", Scope::kWalletWrite, true, create_reservation},
    {"GET", "/v1/reservations/{call_id}", Scope::kWalletRead, false, get_reservation},
    {"POST", "/v1/reservations/{call_id}/commit", Scope::kWalletWrite, true, commit_reservation},
    {"POST", "/v1/reservations/{call_id}/release", Scope::kWalletWrite, true, release_reservation},
    {"POST", "/v1/status-check", Scope::kWalletRead, false, check_status},
    {"POST", "/v1/gates/{gate}/check", Scope::kWalletRead, false, check_gate},
    {"GET", "/v1/usage", Scope::kWalletRead, false, get_usage},
    {"GET", "/v1/usage/history", Scope::kWalletRead, false, get_usage_history},
    {"GET", "/v1/usage/projection", Scope::kWalletRead, false, get_usage_projection},
    {"POST", "/v1/usage", Scope::kUsageWrite, false, record_usage},
    {"POST", "/v1/usage/corrections", Scope::kUsageWrite, false, correct_usage},
    {"POST", "/v1/events", Scope::kUsageWrite, false, record_events},
    {"POST", "/v1/providers/{provider}/events", std::nullopt, false, receive_provider_event},
    {"POST", "/v1/webhooks/stripe", std::nullopt, false, receive_stripe_event, Stranger::kStripe},
    {"POST", "/v1/leases", Scope::kLeaseWrite, false, lease_units},
};

}  // namespace

std::span<const ApiRoute> api_routes() { return kRoutes; }

std::string fingerprint_of(const Call& call, const Fields& fields) {
  std::string about = call.request.method + ' ' + std::string(call.request.route);
  for (const auto& [name, value] : call.request.params) about += '\n' + value;
  return sha256_hex(about + '\n' + fields.canonical());
}

Result<void> as_tenant(Call& call, const std::function<Result<void>(ledger::Transaction&)>& body) {
  const auto within = [&](ledger::Transaction& transaction) -> Result<void> {
    // The role first: what follows is seen by its eyes only.
    if (call.as_admin) {
      if (auto set = transaction.exec("set local role tallygate_admin"); !set) return tl::unexpected(set.error());
    }
    // What is left of the request's time; PostgreSQL takes 0 for no limit.
    const int64_t left_ms = std::max<int64_t>(1, call.until_ms - call.services.env.mono_ms());
    auto chosen =
        transaction.exec("select set_config('tallygate.tenant', $1, true), set_config('statement_timeout', $2, true)",
                         {call.tenant, left_ms});
    if (!chosen) return tl::unexpected(chosen.error());
    return body(transaction);
  };
  Pool& pool = call.as_admin ? call.services.admin_pool : call.services.pool;
  return pool.run(within, call.until_ms, call.tenant);
}

Result<ledger::Rows> select_as_tenant(Call& call, const std::string& sql, const ledger::Params& params) {
  ledger::Rows rows;
  const auto done = as_tenant(call, [&](ledger::Transaction& transaction) -> Result<void> {
    auto got = transaction.exec(sql, params);
    if (!got) return tl::unexpected(got.error());
    rows = std::move(*got);
    return {};
  });
  if (!done) return tl::unexpected(done.error());
  return rows;
}

http::Response unknown_tenant() {
  return http::problem_response({404, "UnknownTenant", "There is no such tenant.", "", {}});
}

http::Response failure_response(const Call& call, const Error& error) {
  const bool away = error.errc == Errc::kUnavailable || error.errc == Errc::kTimeout || error.errc == Errc::kExhausted;
  static log::Throttle throttle(10);  // in an outage all of them do
  log::warn(throttle, "an API request failed",
            {{"request_id", call.request_id},
             {"tenant", call.tenant},
             {"route", call.request.route},
             {"errc", to_string(error.errc)},
             {"error", error.message}});
  if (away) {
    return http::problem_response(
        {503, "Unavailable", "The ledger is away. Repeat the request with the same key.", "", {}},
        {{"Retry-After", "1"}});
  }
  if (error.errc == Errc::kInvalid) {
    return http::problem_response({422, "InvalidRequest", "The ledger refused the request's values.", "", {}});
  }
  return http::problem_response(
      {500, "Internal", "Something went wrong here. The request's id names it in our logs.", "", {}});
}

}  // namespace tallygate::api
