// The API with four providers: "voice" speaks Vapi's language, "dialer" and "intercom" our own, "sms" Twilio's.
#pragma once

#include <fstream>

#include "tests/integration/api/world.h"
#include "tests/unit/api/provider_requests.h"

namespace tallygate::testing {

inline const std::string kIntercomSecret = "whsec_" + to_base64(std::string(32, 'i'));

inline constexpr char kProviders[] = R"({"providers": [
  {"name": "voice", "adapter": "vapi", "secrets": [{"file": "FOLDER/vapi"}], "tenants": ["*"],
   "tenantPointer": "/message/call/metadata/tenant", "currency": "USD", "rates": {"GBP": "0.79"}, "markup": "1.20",
   "reserve": {"amount": "2.00", "ttlSeconds": 3600}, "options": {"assistantId": "a-1", "refusalMessage": "No credit."}},
  {"name": "dialer", "adapter": "standard", "secrets": [{"file": "FOLDER/standard"}], "tenants": ["shop/acme", "shop/globex"],
   "tenantPointer": "/data/tenant", "currency": "GBP", "reserve": {"amount": "1.50", "ttlSeconds": 3600}},
  {"name": "intercom", "adapter": "standard", "secrets": [{"file": "FOLDER/intercom"}], "tenants": ["shop/initech"],
   "currency": "GBP", "reserve": {"amount": "1.50", "ttlSeconds": 3600}, "ignore": ["unknown-type", "unknown-hold"]},
  {"name": "sms", "adapter": "twilio", "secrets": [{"file": "FOLDER/twilio"}], "tenants": ["*"],
   "tenantPointer": "/query/tenant", "currency": "USD", "rates": {"GBP": "0.79"},
   "options": {"publicUrl": "https://billing.example/v1/providers/sms/events"}}
]})";

class ProviderWorld : public ApiWorld {
 public:
  explicit ProviderWorld(const std::function<void(ApiWorld&)>& before_start = nullptr)
      : ApiWorld(kProviders, [&before_start](ApiWorld& world) {
          std::ofstream(world.folder + "/vapi") << kVapiSecret << "\n";
          std::ofstream(world.folder + "/standard") << kStandardSecret << "\n";
          std::ofstream(world.folder + "/intercom") << kIntercomSecret << "\n";
          std::ofstream(world.folder + "/twilio") << kTwilioToken << "\n";
          if (before_start) before_start(world);
        }) {}

  static Ask standard(const std::string& type, const std::string& data, const std::string& provider = "dialer",
                      const std::string& secret = kStandardSecret) {
    const std::string body = R"({"type":")" + type + R"(","data":{)" + data + "}}";
    return {.method = "POST",
            .path = "/v1/providers/" + provider + "/events",
            .body = body,
            .headers = standard_headers(body, system_env().wall_s(), secret)};
  }
  static std::string of(const std::string& call, const std::string& tenant = "ext-acme") {
    return R"("callId":")" + call + R"(","tenant":")" + tenant + '"';
  }
  static Ask vapi(const std::string& type, const std::string& call, const std::string& members = "",
                  const std::string& tenant = "ext-acme") {
    return {.method = "POST",
            .path = "/v1/providers/voice/events",
            .body = R"({"message":{"type":")" + type + R"(","call":{"id":")" + call + R"(","metadata":{"tenant":")" +
                    tenant + R"("}})" + members + "}}",
            .headers = {{"X-Vapi-Secret", kVapiSecret}}};
  }
  // `status` and further parameters, which need no encoding.
  static Ask twilio(const std::string& status, const std::string& message,
                    std::map<std::string, std::string> parameters = {}, const std::string& tenant = "ext-acme") {
    const std::string query = "?tenant=" + tenant + "&callId=" + message;
    parameters.insert({{"MessageSid", "SM1"}, {"MessageStatus", status}});
    std::string form;
    for (const auto& [name, value] : parameters) form += (form.empty() ? "" : "&") + name + "=" + value;
    return {.method = "POST",
            .path = "/v1/providers/sms/events" + query,
            .body = form,
            .content_type = "application/x-www-form-urlencoded",
            .headers = {{"X-Twilio-Signature", twilio_signature(kTwilioToken, kPublicUrl + query, parameters)}}};
  }

  int64_t balance(const std::string& tenant = "shop/acme") {
    return number("select balance_micros from wallets where tenant = '" + tenant + "'");
  }
  int64_t reserved(const std::string& tenant = "shop/acme") {
    return number("select reserved_micros from wallets where tenant = '" + tenant + "'");
  }
  std::string text(const std::string& sql) {
    const auto rows = session.exec(sql);
    return rows && !rows->empty() ? std::string(rows->text(0, 0)) : "";
  }
  std::string status_of(const std::string& provider, const std::string& call) {
    return text("select status from provider_calls where provider = '" + provider + "' and call_id = '" + call + "'");
  }
  // Everything that an event could have changed.
  std::string books() {
    return text(
        "select md5(string_agg(x, '|' order by x)) from (select to_jsonb(c)::text as x from credit_transactions c "
        "union all "
        "select (to_jsonb(p) - 'seen_at')::text from provider_calls p union all select to_jsonb(r)::text from "
        "credit_reservations r union all select to_jsonb(a)::text from audit_log a union all select "
        "to_jsonb(w)::text from wallets w) all_rows");
  }
  // An event's answers, sent `count` times at once on connections of their own.
  std::vector<Answer> at_once(int count, const std::function<Ask(int)>& ask) {
    std::vector<std::unique_ptr<ApiClient>> clients;
    for (int i = 0; i < count; ++i) clients.push_back(std::make_unique<ApiClient>(server->port()));
    for (int i = 0; i < count; ++i) clients[static_cast<size_t>(i)]->start(ask(i));
    std::vector<Answer> answers;
    for (auto& client : clients) answers.push_back(client->finish());
    return answers;
  }
};

}  // namespace tallygate::testing
