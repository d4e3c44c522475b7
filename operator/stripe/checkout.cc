#include "operator/stripe/checkout.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/percent.h"

namespace tallygate::stripe {
namespace {

using Json = nlohmann::json;

constexpr char kTenant[] = "metadata[tallygate_tenant]";
constexpr int kPagesMax = 20;
constexpr size_t kUrlMax = 2048;
// Stripe puts the session's id in its place.
constexpr std::string_view kPlaceholder = "{CHECKOUT_SESSION_ID}";

std::string text_of(const Json& object, const char* name) {
  const auto it = object.find(name);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

Result<Json> read(const Result<Reply>& reply) {
  if (!reply) return tl::unexpected(reply.error());
  if (!reply->ok()) return fail(Errc::kInvalid, reply->code + ": " + reply->message);
  Json json = Json::parse(reply->body, nullptr, false);
  if (!json.is_object()) return fail(Errc::kUnavailable, "Stripe's answer is no JSON object");
  return json;
}

Result<Session> session_of(const Result<Reply>& reply) {
  const auto json = read(reply);
  if (!json) return tl::unexpected(json.error());
  Session session{text_of(*json, "id"), text_of(*json, "url"), text_of(*json, "status"), text_of(*json, "payment_status")};
  if (!session.id.starts_with("cs_")) return fail(Errc::kUnavailable, "Stripe's answer is no Checkout session");
  return session;
}

}  // namespace

Result<Session> Checkout::open(const TopUp& topup, int64_t until_ms) {
  std::string currency = topup.pay_currency;
  std::transform(currency.begin(), currency.end(), currency.begin(), [](char c) { return static_cast<char>(c | 0x20); });
  // Nothing but ids in what is sent along: it shows in Stripe's pages and exports.
  const Form form = {{"mode", "payment"},
                     {"client_reference_id", topup.id},
                     {"customer", topup.customer},
                     {"line_items[0][quantity]", "1"},
                     {"line_items[0][price_data][currency]", currency},
                     {"line_items[0][price_data][unit_amount]", std::to_string(topup.pay_minor)},
                     {"line_items[0][price_data][product_data][name]", "Top-up"},
                     {"metadata[tallygate_topup]", topup.id},
                     {kTenant, topup.tenant},
                     {"payment_intent_data[metadata][tallygate_topup]", topup.id},
                     {"payment_intent_data[metadata][tallygate_tenant]", topup.tenant},
                     {"adaptive_pricing[enabled]", "false"},
                     {"expires_at", std::to_string(topup.expires_s)},
                     {"success_url", topup.success_url},
                     {"cancel_url", topup.cancel_url}};
  auto session = session_of(client_.post("/v1/checkout/sessions", form, topup.attempt_key, until_ms));
  if (session && session->url.empty() && session->status == "open") return fail(Errc::kUnavailable, "the session has no URL");
  return session;
}

Result<Session> Checkout::close(const std::string& session, const std::string& key, int64_t until_ms) {
  const std::string path = "/v1/checkout/sessions/" + percent_encode(session);
  auto closed = session_of(client_.post(path + "/expire", {}, key, until_ms));
  if (closed || (closed.error().errc != Errc::kInvalid && closed.error().errc != Errc::kInternal)) return closed;
  // It was closed before, or is complete, or Stripe failed inside: how it stands is to be seen.
  closed = session_of(client_.get(path, until_ms));
  if (closed && closed->status == "open") return fail(Errc::kUnavailable, "Stripe has not closed the session yet");
  return closed;
}

Result<std::string> Checkout::make_customer(const std::string& tenant, const std::string& email, const std::string& key,
                                            int64_t until_ms) {
  Form form = {{"name", tenant}, {kTenant, tenant}};
  if (!email.empty()) form.emplace_back("email", email);
  const auto json = read(client_.post("/v1/customers", form, key, until_ms));
  if (!json) return tl::unexpected(json.error());
  std::string id = text_of(*json, "id");
  if (!id.starts_with("cus_")) return fail(Errc::kUnavailable, "Stripe's answer is no customer");
  return id;
}

Result<std::string> Checkout::portal(const std::string& customer, const std::string& return_url, const std::string& key,
                                     int64_t until_ms) {
  const Form form = {{"customer", customer}, {"return_url", return_url}};
  const auto json = read(client_.post("/v1/billing_portal/sessions", form, key, until_ms));
  if (!json) return tl::unexpected(json.error());
  std::string url = text_of(*json, "url");
  if (!url.starts_with("https://")) return fail(Errc::kUnavailable, "Stripe's answer is no portal session");
  return url;
}

Result<std::optional<std::string>> Checkout::find_customer(const std::string& tenant, int64_t since_s, int64_t until_ms) {
  std::string after;
  for (int page = 0; page < kPagesMax; ++page) {
    const auto json = read(client_.get("/v1/customers?limit=100&created%5Bgte%5D=" + std::to_string(since_s) + after, until_ms));
    if (!json) return tl::unexpected(json.error());
    const auto data = json->find("data");
    if (data == json->end() || !data->is_array()) return fail(Errc::kUnavailable, "Stripe's answer is no list");
    std::string last;
    for (const Json& customer : *data) {
      if (!customer.is_object()) continue;
      last = text_of(customer, "id");
      const auto metadata = customer.find("metadata");
      if (metadata != customer.end() && metadata->is_object() && text_of(*metadata, "tallygate_tenant") == tenant) return last;
    }
    const auto more = json->find("has_more");
    if (more == json->end() || !more->is_boolean() || !more->get<bool>() || last.empty()) return std::nullopt;
    after = "&starting_after=" + percent_encode(last);
  }
  return fail(Errc::kUnavailable, "Stripe's list of customers is too long to find one in it");
}

std::string url_fault(std::string_view url, std::span<const std::string> hosts) {
  if (hosts.empty()) return "is allowed on no host: the operator's --checkout-url-hosts names none";
  if (url.size() > kUrlMax) return "is too long";
  std::string plain(url);
  if (const size_t at = plain.find(kPlaceholder); at != std::string::npos) plain.erase(at, kPlaceholder.size());
  const bool clean = std::all_of(plain.begin(), plain.end(), [](char c) {
    return c > ' ' && c < '\x7f' && std::string_view("\"<>\\^`{|}#").find(c) == std::string_view::npos;
  });
  if (!clean) return "has characters that no URL has, or a fragment";
  constexpr std::string_view kScheme = "https://";
  if (!plain.starts_with(kScheme)) return "must begin with https://";
  const std::string_view rest = std::string_view(plain).substr(kScheme.size());
  std::string host(rest.substr(0, rest.find_first_of("/?")));
  std::transform(host.begin(), host.end(), host.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (url.find(kPlaceholder) <= kScheme.size() + host.size()) return "has the session's id for a host";
  if (std::find(hosts.begin(), hosts.end(), host) != hosts.end()) return "";
  return "must be on one of the hosts of the operator's --checkout-url-hosts, without a user or a port";
}

}  // namespace tallygate::stripe
