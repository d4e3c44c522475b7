// Vapi's server messages: {"message": {"type": …, "call": {"id": …}, …}}. An assistant-request starts a call, a
// status-update asks whether it may go on, an end-of-call-report says what it cost, in USD. The others are for the app.
//
// Who it is, as its credentials can be set up: a secret in X-Vapi-Secret or as bearer token, or an HMAC-SHA256 in
// hexadecimal over the body, or over "timestamp.body" where there is a timestamp header.
#include <array>

#include "core/telemetry/json_text.h"
#include "core/telemetry/log.h"
#include "operator/api/provider/adapter.h"
#include "operator/api/provider/payload.h"
#include "operator/api/text.h"

namespace tallygate::api {
namespace {

constexpr size_t kSecretBytesMin = 16, kSecretBytesMax = 512;
constexpr std::array<std::string_view, 24> kInformational = {"tool-calls",
                                                             "function-call",
                                                             "conversation-update",
                                                             "transcript",
                                                             "speech-update",
                                                             "hang",
                                                             "model-output",
                                                             "transfer-destination-request",
                                                             "transfer-update",
                                                             "user-interrupted",
                                                             "language-change-detected",
                                                             "language-changed",
                                                             "phone-call-control",
                                                             "voice-input",
                                                             "voice-request",
                                                             "knowledge-base-request",
                                                             "chat.created",
                                                             "chat.deleted",
                                                             "session.created",
                                                             "session.updated",
                                                             "session.deleted",
                                                             "assistant.started",
                                                             "call.endpointing.request",
                                                             "handoff-destination-request"};

bool is_informational(std::string_view type) {
  type = type.substr(0, type.find('['));  // transcript[transcriptType="final"]
  return std::find(kInformational.begin(), kInformational.end(), type) != kInformational.end();
}

std::string secret_fault(std::string_view secret) {
  return secret.size() >= kSecretBytesMin && secret.size() <= kSecretBytesMax ? "" : "must have 16 to 512 bytes";
}

std::string hex(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const char c : bytes) {
    out += kDigits[static_cast<unsigned char>(c) >> 4];
    out += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

struct VapiOptions {
  enum class Scheme : uint8_t { kSecret, kBearer, kHmac };
  Scheme scheme = Scheme::kSecret;
  std::string signature_header, timestamp_header, signature_prefix;  // names in lower case; no timestamp: ""
  std::string assistant_id, refusal;
};

class Vapi final : public ProviderAdapter {
 public:
  Vapi(ProviderSecrets secrets, VapiOptions options) : secrets_(std::move(secrets)), options_(std::move(options)) {}

  bool authenticate(const http::Request& request, int64_t now_s, std::string& why) const override {
    using Scheme = VapiOptions::Scheme;
    if (options_.scheme == Scheme::kHmac) return is_signed(request, now_s, why);
    const bool bearer = options_.scheme == Scheme::kBearer;
    const auto given = only_header(request, bearer ? "authorization" : "x-vapi-secret", why);
    const auto expected = [&](const std::string& secret) { return bearer ? "Bearer " + secret : secret; };
    if (!given) return false;
    if (fits_any(secrets_, *given, expected)) return true;
    why = "another secret";
    return false;
  }

  bool proves_by_head() const override { return options_.scheme != VapiOptions::Scheme::kHmac; }

  tl::expected<Reading, http::Response> read(const http::Request& request,
                                             const std::string& tenant_pointer) const override {
    Payload payload(request);
    const std::string type = payload.text("/message/type", 128);
    ProviderEvent event = Ignored{type, is_informational(type)};
    if (type == "assistant-request") event = CallStarting{payload.call_id("/message/call/id"), std::nullopt};
    if (type == "status-update") {
      const std::string id = payload.call_id("/message/call/id");
      // After the end there is nothing to stop; the report comes by itself.
      if (payload.text("/message/status", 64) == "ended") {
        event = Ignored{type};
      } else {
        event = StatusCheck{id};
      }
    }
    if (type == "end-of-call-report") {
      CallEnded ended{payload.call_id("/message/call/id"), {payload.decimal("/message/cost", false), "USD"}, {}, {}};
      ended.started_ns = payload.moment("/message/startedAt");
      ended.ended_ns = payload.moment("/message/endedAt");
      if (ended.cost.amount && ended.cost.amount->is_negative())
        payload.refuse("/message/cost", "must not be negative");
      event = std::move(ended);
    }
    return reading_of(payload, std::move(event), tenant_pointer);
  }

  http::Response answer(const Outcome& outcome) const override {
    JsonWriter json;
    json.begin_object();
    if (outcome.kind == Outcome::Kind::kRefused) {
      json.key("error");  // spoken to the caller
      json.value(options_.refusal);
    } else if (outcome.kind == Outcome::Kind::kReserved && !options_.assistant_id.empty()) {
      json.key("assistantId");
      json.value(options_.assistant_id);
    } else if (outcome.kind == Outcome::Kind::kStatus && outcome.end_call) {
      json.key("endCall");
      json.value(true);
    }
    json.end_object();
    return http::json_response(200, json.take());
  }

 private:
  bool is_signed(const http::Request& request, int64_t now_s, std::string& why) const {
    const auto given = only_header(request, options_.signature_header, why);
    if (!given) return false;
    std::string signed_text;
    if (!options_.timestamp_header.empty()) {
      const auto timestamp = only_header(request, options_.timestamp_header, why);
      if (!timestamp) return false;
      // In seconds, or in milliseconds as JavaScript has it.
      const bool in_ms = timestamp->size() == 13;
      if (!is_timely(in_ms ? timestamp->substr(0, 10) : *timestamp, now_s, why)) return false;
      signed_text = std::string(*timestamp) + '.';
    }
    signed_text += request.body;
    const auto sign = [&](const std::string& secret) {
      return options_.signature_prefix + hex(hmac_sha256(secret, signed_text));
    };
    if (fits_any(secrets_, *given, sign)) return true;
    why = "the signature does not fit";
    return false;
  }

  const ProviderSecrets secrets_;
  const VapiOptions options_;
};

// A header's name in lower case.
std::string header_name(Fields& options, const std::string& field) {
  std::string name = options.text(field, 64, false);
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  if (!name.empty() && !http::is_token(name)) options.refuse(field, "must be a header's name");
  return name;
}

std::unique_ptr<const ProviderAdapter> make(ProviderSecrets secrets, Fields& options) {
  VapiOptions out;
  const std::string scheme = options.text("authentication", 16, false);
  if (scheme == "bearer") out.scheme = VapiOptions::Scheme::kBearer;
  if (scheme == "hmac") out.scheme = VapiOptions::Scheme::kHmac;
  if (!scheme.empty() && scheme != "secret" && scheme != "bearer" && scheme != "hmac") {
    options.refuse("authentication", "must be secret, bearer or hmac");
  }
  out.signature_header = header_name(options, "signatureHeader");
  out.timestamp_header = header_name(options, "timestampHeader");
  out.signature_prefix = options.text("signaturePrefix", 32, false);
  if (out.signature_header.empty()) out.signature_header = "x-signature";
  if (out.scheme == VapiOptions::Scheme::kHmac && out.timestamp_header.empty()) {
    log::warn("Vapi's signatures carry no time: what was sent once can be sent again at any time",
              {{"fix", "have its credential sign a timestamp header, and name it in options.timestampHeader"}});
  }
  out.assistant_id = options.text("assistantId", 128, false);
  out.refusal = options.text("refusalMessage", 500, false);
  if (out.refusal.empty()) out.refusal = "Sorry, this account has not enough credit for a call.";
  return std::make_unique<Vapi>(std::move(secrets), std::move(out));
}

}  // namespace

const AdapterKind kVapiAdapter = {"vapi", true, "USD", &make, &secret_fault};

}  // namespace tallygate::api
