// What no provider sends: it is not authenticated, or not read, and the answer names the field.
#include <gtest/gtest.h>

#include "operator/api/provider/adapter.h"
#include "tests/unit/api/provider_requests.h"

namespace tallygate::api {
namespace {

using namespace tallygate::testing;  // NOLINT: the helpers

constexpr int64_t kNow = 1'795'255'666;
constexpr char kForm[] = "application/x-www-form-urlencoded";

std::unique_ptr<const ProviderAdapter> adapter_of(const AdapterKind& kind) {
  const bool twilio = kind.name == "twilio";
  Fields options(twilio ? R"({"publicUrl":")" + kPublicUrl + "\"}" : std::string("{}"), "");
  return kind.make({twilio ? kTwilioToken : kind.name == "vapi" ? kVapiSecret : kStandardSecret}, options);
}

http::Request request(std::string body, HeaderList headers, const std::string& type = "application/json") {
  http::Request out;
  out.method = "POST";
  out.body = std::move(body);
  out.headers = std::move(headers);
  if (!type.empty()) out.headers.emplace_back("content-type", type);
  return out;
}

TEST(ProviderBadRequests, AreNotAuthenticated) {
  struct Row {
    std::string name;
    const AdapterKind* kind;
    http::Request request;
  };
  std::vector<Row> rows;
  const std::string body = golden_payload("standard_call_ended.json");
  const HeaderList good = standard_headers(body, kNow);
  const auto standard = [&](const std::string& name, HeaderList headers, const std::string& sent = "") {
    rows.push_back({name, &kStandardAdapter, request(sent.empty() ? body : sent, std::move(headers))});
  };
  // The good headers with one of them replaced, or left out.
  const auto with = [&](size_t which, const std::string& value) {
    HeaderList headers = good;
    if (value.empty()) {
      headers.erase(headers.begin() + static_cast<std::ptrdiff_t>(which));
    } else {
      headers[which].second = value;
    }
    return headers;
  };
  const auto doubled = [&](size_t which) {
    HeaderList headers = good;
    headers.push_back(headers[which]);
    return headers;
  };
  const auto signed_with = [&](const std::string& id, const std::string& timestamp) {
    return HeaderList{{"webhook-id", id},
                      {"webhook-timestamp", timestamp},
                      {"webhook-signature", standard_signature(kStandardSecret, id, timestamp, body)}};
  };
  standard("no headers", {});
  standard("another body", good, body + " ");
  standard("truncated body", good, body.substr(0, 40));
  standard("another secret", standard_headers(body, kNow, "whsec_" + to_base64(std::string(32, 'x'))));
  standard("stale", standard_headers(body, kNow - 301));
  standard("from the future", standard_headers(body, kNow + 301));
  for (size_t i = 0; i < 3; ++i) {
    standard("without " + good[i].first, with(i, ""));
    standard("twice " + good[i].first, doubled(i));
  }
  standard("another id", with(0, "msg_2"));
  standard("another timestamp", with(1, std::to_string(kNow - 1)));
  standard("an id with a full stop", signed_with("msg.1", std::to_string(kNow)));
  standard("an id with a space", signed_with("msg 1", std::to_string(kNow)));
  for (const char* timestamp : {"1795255666.0", " 1795255666", "1795255666 ", "+1795255666", "-1795255666", "0x6B",
                                "now", "99999999999999999999", "1795255666000", "١٧٩٥"}) {
    standard(std::string("timestamp ") + timestamp, signed_with("msg_1", timestamp));
  }
  const std::string plain = good[2].second.substr(3);
  for (const std::string& signature :
       {plain, "v1" + plain, "v1a," + plain, "v2," + plain, "V1," + plain, "v1, " + plain, "v1," + plain + ",",
        good[2].second.substr(0, 20), good[2].second + "x", std::string("v1,"), std::string(" "),
        "v1," + std::string(64, '0')}) {
    standard("signature " + signature, with(2, signature));
  }
  std::string seventeen;
  for (int i = 0; i < 16; ++i) seventeen += "v1,AAAA ";
  standard("more signatures than are looked at", with(2, seventeen + good[2].second));

  for (const HeaderList& headers :
       {HeaderList{}, HeaderList{{"x-vapi-secret", ""}}, HeaderList{{"x-vapi-secret", kVapiSecret + "x"}},
        HeaderList{{"x-vapi-secret", kVapiSecret.substr(1)}}, HeaderList{{"authorization", "Bearer " + kVapiSecret}},
        HeaderList{{"x-vapi-secret", kVapiSecret}, {"x-vapi-secret", kVapiSecret}}}) {
    rows.push_back({"vapi", &kVapiAdapter, request("{}", headers)});
  }

  const std::map<std::string, std::string> parameters = {{"MessageSid", "SM1"}, {"MessageStatus", "sent"}};
  const std::string signature = twilio_signature(kTwilioToken, kPublicUrl, parameters);
  const auto twilio = [&](const std::string& name, const std::string& form, const std::string& given,
                          const std::string& query = "") {
    auto sent = request(form, given.empty() ? HeaderList{} : HeaderList{{"x-twilio-signature", given}}, kForm);
    sent.query = query;
    rows.push_back({name, &kTwilioAdapter, std::move(sent)});
  };
  twilio("no signature", "MessageSid=SM1&MessageStatus=sent", "");
  twilio("another value", "MessageSid=SM1&MessageStatus=delivered", signature);
  twilio("one more parameter", "MessageSid=SM1&MessageStatus=sent&Price=0", signature);
  twilio("a parameter twice", "MessageSid=SM1&MessageStatus=sent&MessageSid=SM1", signature);
  twilio("a broken escape", "MessageSid=SM1&MessageStatus=sent%", signature);
  twilio("a query that was not signed", "MessageSid=SM1&MessageStatus=sent", signature, "tenant=globex");
  twilio("another token's", "MessageSid=SM1&MessageStatus=sent",
         twilio_signature("fedcba9876543210fedcba9876543210", kPublicUrl, parameters));
  twilio("another URL's", "MessageSid=SM1&MessageStatus=sent",
         twilio_signature(kTwilioToken, "https://elsewhere.example/", parameters));

  EXPECT_GE(rows.size(), 40u);
  for (const auto& row : rows) {
    std::string why;
    EXPECT_FALSE(adapter_of(*row.kind)->authenticate(row.request, kNow, why)) << row.name;
    EXPECT_FALSE(why.empty()) << row.name;
  }
}

struct BadBody {
  const AdapterKind* kind;
  std::string body;
  int status;
  std::string names;  // must be in the answer
  std::string type = "application/json";
};

void add_bodies(std::vector<BadBody>& rows) {
  for (const AdapterKind* kind : {&kStandardAdapter, &kVapiAdapter}) {
    const std::string deep = "{\"a\":" + std::string(70, '[') + std::string(70, ']') + "}";
    for (const std::string& body :
         {std::string(), std::string("{"), std::string("nonsense"), std::string("{\"type\":\"call.ended\",}"),
          std::string("{\"type\":\"\xFF\"}"), std::string("{\"a\":1,\"a\":2}"),
          std::string("{\"d\":{\"b\":1,\"b\":1}}"), std::string("{\"cost\":NaN}"), std::string("{\"cost\":Infinity}"),
          std::string("{\"cost\":1e999}"), std::string("{\"cost\":01}"), std::string("{\"cost\":.5}"),
          std::string("{}\0{}", 5), deep}) {
      rows.push_back({kind, body, 400, "MalformedJson"});
    }
    for (const char* body : {"[]", "1", "null", "\"text\""}) rows.push_back({kind, body, 400, "no object"});
    for (const char* type : {"text/plain", "", kForm}) rows.push_back({kind, "{}", 415, "application/json", type});
  }
}

std::string ended(const std::string& data) { return R"({"type":"call.ended","data":{)" + data + "}}"; }
std::string message(const std::string& data) { return R"({"type":"message.status","data":{)" + data + "}}"; }
std::string vapi(const std::string& members) { return R"({"message":{)" + members + "}}"; }

TEST(ProviderBadRequests, AreNotReadAndTheFieldIsNamed) {
  std::vector<BadBody> rows;
  add_bodies(rows);
  const auto refuse = [&](const AdapterKind& kind, const std::string& body, const std::string& field) {
    rows.push_back({&kind, body, 422, "\"field\":\"" + field + "\""});
  };
  refuse(kStandardAdapter, "{}", "/type");
  refuse(kStandardAdapter, R"({"type":7})", "/type");
  refuse(kStandardAdapter, R"({"type":"call.starting","timestamp":"yesterday","data":{"callId":"c"}})", "/timestamp");
  refuse(kStandardAdapter, R"({"type":"call.starting"})", "/data/callId");
  refuse(kStandardAdapter, R"({"type":"call.status","data":[]})", "/data/callId");
  for (const char* id : {"null", "1", "\"\"", "{}", R"("a\u0000")", R"("a\nb")"}) {
    refuse(kStandardAdapter, ended(std::string(R"("cost":1,"callId":)") + id), "/data/callId");
  }
  refuse(kStandardAdapter, ended(R"("cost":1,"callId":")" + std::string(181, 'x') + "\""), "/data/callId");
  for (const char* cost : {"null", "true", "[]", "{}", "\"\"", "\"1,5\"", "\" 1\"", "\"NaN\"", "-1", "\"-0.01\"",
                           "1e50", "1e-50", "123456789012345678901234567890", "0.1234567890123456789", "\"0x1\""}) {
    refuse(kStandardAdapter, ended(std::string(R"("callId":"c","cost":)") + cost), "/data/cost");
  }
  for (const char* currency : {"1", "\"\"", "\"POUND\"", "\"U$D\"", "\"GB\""}) {
    refuse(kStandardAdapter, ended(std::string(R"("callId":"c","cost":1,"currency":)") + currency), "/data/currency");
  }
  refuse(kStandardAdapter, ended(R"("callId":"c","cost":1,"endedAt":5)"), "/data/endedAt");
  refuse(kStandardAdapter, ended(R"("callId":"c","cost":1,"startedAt":"2026-02-30T00:00:00Z")"), "/data/startedAt");
  refuse(kStandardAdapter, message(R"("status":"sent")"), "/data/messageId");
  refuse(kStandardAdapter, message(R"("messageId":"m")"), "/data/status");
  refuse(kStandardAdapter, message(R"("messageId":"m","status":"lost")"), "/data/status");
  refuse(kStandardAdapter, message(R"("messageId":"m","status":"sent","price":-1)"), "/data/price");
  refuse(kVapiAdapter, "{}", "/message/type");
  refuse(kVapiAdapter, vapi(R"("type":"assistant-request")"), "/message/call/id");
  refuse(kVapiAdapter, vapi(R"("type":"assistant-request","call":{"id":7})"), "/message/call/id");
  refuse(kVapiAdapter, vapi(R"("type":"status-update","call":{"id":"c"})"), "/message/status");
  for (const char* cost : {"-0.1", "\"a\"", "true", "[1]", "1e60"}) {
    refuse(kVapiAdapter, vapi(std::string(R"("type":"end-of-call-report","call":{"id":"c"},"cost":)") + cost),
           "/message/cost");
  }
  rows.push_back({&kTwilioAdapter, "MessageStatus=sent", 422, "/MessageSid", kForm});
  rows.push_back({&kTwilioAdapter, "MessageSid=SM1", 422, "/MessageStatus", kForm});
  rows.push_back({&kTwilioAdapter, "MessageSid=SM%0A1&MessageStatus=sent", 422, "/MessageSid", kForm});
  rows.push_back({&kTwilioAdapter, "MessageSid=SM1&MessageStatus=sent&Price=free", 422, "/Price", kForm});
  rows.push_back({&kTwilioAdapter, "MessageSid=SM1&MessageStatus=sent&PriceUnit=pound", 422, "/PriceUnit", kForm});
  rows.push_back({&kTwilioAdapter, "MessageSid=SM1&MessageSid=SM2", 400, "MalformedForm", kForm});
  rows.push_back({&kTwilioAdapter, "MessageSid=SM1&MessageStatus=sent", 415, "urlencoded", "application/json"});
  EXPECT_GE(rows.size(), 40u);
  for (const auto& row : rows) {
    const auto reading = adapter_of(*row.kind)->read(request(row.body, {}, row.type), "/data/tenant");
    ASSERT_FALSE(reading) << row.kind->name << ": " << row.body;
    EXPECT_EQ(reading.error().status, row.status) << row.body << " → " << reading.error().body;
    EXPECT_NE(reading.error().body.find(row.names), std::string::npos) << row.body << " → " << reading.error().body;
  }
}

TEST(ProviderBadRequests, TellAllTheirFaultsAtOnce) {
  const auto reading =
      adapter_of(kStandardAdapter)
          ->read(request(ended(R"("callId":7,"cost":"x","currency":"y","endedAt":1)"), {}), "/data/tenant");
  ASSERT_FALSE(reading);
  for (const char* field : {"/data/callId", "/data/cost", "/data/currency", "/data/endedAt"}) {
    EXPECT_NE(reading.error().body.find(std::string("\"field\":\"") + field), std::string::npos)
        << reading.error().body;
  }
}

}  // namespace
}  // namespace tallygate::api
