// Our own events, for providers without an adapter and for apps that tell of their calls themselves, signed as Standard
// Webhooks 1.0 has it: HMAC-SHA256 over "id.timestamp.body", under the key that "whsec_" + base64 names. Delivered
// again, an event has the same effect once, by its call's id: webhook-id is only signed, not kept.
//
//   {"type": "call.starting",  "timestamp": "…", "data": {"callId": "c-1", "tenant": "acme"}}
//   {"type": "call.status",    "timestamp": "…", "data": {"callId": "c-1", …}}
//   {"type": "call.ended",     "timestamp": "…", "data": {"callId": "c-1", …, "cost": "0.0213", "currency": "USD",
//                                                         "startedAt": "…", "endedAt": "…"}}
//   {"type": "message.status", "timestamp": "…", "data": {"messageId": "m-1", …, "status": "delivered", "price":
//   0.0079}}
#include <functional>

#include "core/base64.h"
#include "core/telemetry/json_text.h"
#include "operator/api/provider/adapter.h"
#include "operator/api/provider/payload.h"
#include "operator/api/text.h"
#include "operator/api/wallet_json.h"

namespace tallygate::api {
namespace {

constexpr std::string_view kSecretPrefix = "whsec_", kVersion = "v1,";
constexpr size_t kKeyBytesMin = 24, kKeyBytesMax = 64, kSignaturesMax = 16;

std::string key_of(std::string_view secret) {
  if (!secret.starts_with(kSecretPrefix)) return "";
  return base64_decode(secret.substr(kSecretPrefix.size())).value_or("");
}

std::string secret_fault(std::string_view secret) {
  const size_t size = key_of(secret).size();
  return size >= kKeyBytesMin && size <= kKeyBytesMax ? "" : "must be whsec_ and the base64 of 24 to 64 bytes";
}

class Standard final : public ProviderAdapter {
 public:
  explicit Standard(const ProviderSecrets& secrets) {
    for (const auto& secret : secrets) keys_.push_back(key_of(secret));
  }

  bool authenticate(const http::Request& request, int64_t now_s, std::string& why) const override {
    const auto id = only_header(request, "webhook-id", why);
    const auto timestamp = only_header(request, "webhook-timestamp", why);
    const auto signatures = only_header(request, "webhook-signature", why);
    if (!id || !timestamp || !signatures || !is_timely(*timestamp, now_s, why)) return false;
    // A full stop in the id would let two triples be signed as one text.
    if (!is_key(*id) || id->find('.') != std::string_view::npos) {
      why = "webhook-id is empty, too long or has a full stop";
      return false;
    }
    const std::string signed_text = std::string(*id) + '.' + std::string(*timestamp) + '.' + request.body;
    // Once a key, however many signatures are sent: whoever sends them has proven nothing yet.
    ProviderSecrets expected;
    for (const auto& key : keys_) expected.push_back(base64_encode(hmac_sha256(key, signed_text)));
    std::string_view rest = *signatures;
    for (size_t count = 0; !rest.empty() && count < kSignaturesMax; ++count) {
      const size_t end = std::min(rest.find(' '), rest.size());
      const std::string_view one = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      if (!one.starts_with(kVersion)) continue;  // of another scheme
      if (fits_any(expected, one.substr(kVersion.size()), std::identity())) return true;
    }
    why = "no signature fits";
    return false;
  }

  tl::expected<Reading, http::Response> read(const http::Request& request,
                                             const std::string& tenant_pointer) const override {
    Payload payload(request);
    const std::string type = payload.text("/type", 64);
    const auto at_ns = payload.moment("/timestamp");
    ProviderEvent event = Ignored{type, false};
    if (type == "call.starting") event = CallStarting{payload.call_id("/data/callId"), at_ns};
    if (type == "call.status") event = StatusCheck{payload.call_id("/data/callId")};
    if (type == "call.ended") {
      const std::string id = payload.call_id("/data/callId");
      const ProviderCost cost = cost_of(payload, "/data/cost", true);
      const auto ended_ns = payload.moment("/data/endedAt");
      event = CallEnded{id, cost, payload.moment("/data/startedAt"), ended_ns ? ended_ns : at_ns};
    }
    if (type == "message.status") event = message_of(payload);
    return reading_of(payload, std::move(event), tenant_pointer);
  }

  http::Response answer(const Outcome& outcome) const override {
    JsonWriter json;
    json.begin_object();
    switch (outcome.kind) {
      case Outcome::Kind::kReserved:
      case Outcome::Kind::kRefused:
        json.key("allowed");
        json.value(outcome.kind == Outcome::Kind::kReserved);
        break;
      case Outcome::Kind::kStatus:
        json.key("endCall");
        json.value(outcome.end_call);
        break;
      case Outcome::Kind::kSettled:
      case Outcome::Kind::kUnpaid:
      case Outcome::Kind::kIgnored:
        json.key("status");
        json.value(outcome.kind == Outcome::Kind::kSettled  ? "settled"
                   : outcome.kind == Outcome::Kind::kUnpaid ? "unpaid"
                                                            : "ignored");
        break;
    }
    put_text_unless_empty(json, "reason", outcome.reason);
    if (outcome.kind != Outcome::Kind::kIgnored) {
      json.key("duplicate");
      json.value(outcome.duplicate);
    }
    if (!outcome.currency.empty()) {
      json.key("currency");
      json.value(outcome.currency);
      put_money(json, "amount", outcome.amount, outcome.currency);
      put_money(json, "effective", outcome.effective, outcome.currency);
    }
    json.end_object();
    return http::json_response(200, json.take());
  }

 private:
  static ProviderCost cost_of(Payload& payload, const std::string& pointer, bool required) {
    ProviderCost cost{payload.decimal(pointer, required), payload.currency("/data/currency").value_or("")};
    if (cost.amount && cost.amount->is_negative()) payload.refuse(pointer, "must not be negative");
    return cost;
  }

  static ProviderEvent message_of(Payload& payload) {
    MessageStatus message{payload.call_id("/data/messageId"), false, cost_of(payload, "/data/price", false)};
    const std::string status = payload.text("/data/status", 32);
    message.delivered = status == "delivered" || status == "sent";
    if (!message.delivered && status != "failed" && status != "undelivered" && !status.empty()) {
      payload.refuse("/data/status", "must be sent, delivered, undelivered or failed");
    }
    return message;
  }

  ProviderSecrets keys_;
};

std::unique_ptr<const ProviderAdapter> make(ProviderSecrets secrets, Fields&) {
  return std::make_unique<Standard>(secrets);
}

}  // namespace

const AdapterKind kStandardAdapter = {"standard", true, "", &make, &secret_fault};

}  // namespace tallygate::api
