// Each adapter with payloads as its provider sends them: who it is, what they say, what is answered.
#include <gtest/gtest.h>

#include "operator/api/provider/adapter.h"
#include "operator/api/provider/form.h"
#include "operator/api/text.h"
#include "tests/unit/api/provider_requests.h"

namespace tallygate::api {
namespace {

using namespace tallygate::testing;  // NOLINT: the helpers

constexpr int64_t kNow = 1'795'255'666;
constexpr char kCall[] = "7420f27a-30fd-4f49-a995-5549ae7cc00d";

std::unique_ptr<const ProviderAdapter> made(const AdapterKind& kind, ProviderSecrets secrets,
                                            const std::string& options = "{}") {
  Fields fields(options, "");
  auto adapter = kind.make(std::move(secrets), fields);
  EXPECT_TRUE(fields.take_faults().empty());
  return adapter;
}

http::Request request(std::string body, HeaderList headers, const std::string& type = "application/json") {
  http::Request out;
  out.method = "POST";
  out.body = std::move(body);
  out.headers = std::move(headers);
  out.headers.emplace_back("content-type", type);
  return out;
}

bool known(const ProviderAdapter& adapter, const http::Request& request, int64_t now_s = kNow) {
  std::string why;
  const bool is_known = adapter.authenticate(request, now_s, why);
  EXPECT_EQ(is_known, why.empty()) << why;
  return is_known;
}

Reading read(const ProviderAdapter& adapter, const http::Request& request, const std::string& pointer) {
  auto reading = adapter.read(request, pointer);
  if (!reading) {
    ADD_FAILURE() << reading.error().body;
    return {};
  }
  return std::move(*reading);
}

TEST(StandardAdapter, VerifiesTheSchemesPublishedExample) {
  const auto adapter = made(kStandardAdapter, {kStandardSecret});
  const HeaderList headers = {{"webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"},
                              {"webhook-timestamp", "1614265330"},
                              {"webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}};
  EXPECT_TRUE(known(*adapter, request(R"({"test": 2432232314})", headers), 1'614'265'330));
}

TEST(StandardAdapter, TakesAnyOfSeveralSignaturesAndSecretsWithinFiveMinutes) {
  const std::string other = "whsec_" + to_base64(std::string(32, 'k'));
  const auto adapter = made(kStandardAdapter, {other, kStandardSecret});
  const std::string body = "{}";
  for (const int64_t apart_s : {-300, 0, 300}) {
    EXPECT_TRUE(known(*adapter, request(body, standard_headers(body, kNow + apart_s))));
    EXPECT_TRUE(known(*adapter, request(body, standard_headers(body, kNow + apart_s, other))));
  }
  auto headers = standard_headers(body, kNow);
  headers[2].second = "v1a,AAAA v1,bm9uc2Vuc2U= " + headers[2].second;
  EXPECT_TRUE(known(*adapter, request(body, headers)));
}

TEST(StandardAdapter, ReadsEachEvent) {
  const auto adapter = made(kStandardAdapter, {kStandardSecret});
  const auto from = [&](const std::string& name) {
    return read(*adapter, request(golden_payload(name), {}), "/data/tenant");
  };
  const Reading starting = from("standard_call_starting.json");
  EXPECT_EQ(starting.external_id, "ext-acme");
  EXPECT_EQ(std::get<CallStarting>(starting.event).call_id, "c-1");
  EXPECT_EQ(std::get<CallStarting>(starting.event).started_ns, parse_moment("2026-11-21T10:07:46Z"));
  EXPECT_EQ(std::get<StatusCheck>(from("standard_call_status.json").event).call_id, "c-1");
  const auto ended = std::get<CallEnded>(from("standard_call_ended.json").event);
  EXPECT_EQ(ended.cost.amount->text(), "0.0213");
  EXPECT_EQ(ended.cost.currency, "USD");
  EXPECT_EQ(ended.ended_ns, parse_moment("2026-11-21T10:09:40Z"));
  const auto message = std::get<MessageStatus>(from("standard_message_status.json").event);
  EXPECT_EQ(message.message_id, "m-1");
  EXPECT_TRUE(message.delivered);
  EXPECT_EQ(message.price.amount->text(), "0.0079");
  const auto other = read(*adapter, request(R"({"type":"call.transferred","data":{}})", {}), "/data/tenant");
  EXPECT_FALSE(std::get<Ignored>(other.event).known);
  EXPECT_EQ(other.external_id, "");
}

TEST(StandardAdapter, AnswersWithTheFacts) {
  const auto adapter = made(kStandardAdapter, {kStandardSecret});
  using Kind = Outcome::Kind;
  const auto body = [&](const Outcome& outcome) { return adapter->answer(outcome).body; };
  EXPECT_EQ(body({.kind = Kind::kReserved, .currency = "GBP", .amount = 2'000'000, .effective = 500'000}),
            R"({"allowed":true,"duplicate":false,"currency":"GBP","amount":"2.00","effective":"0.50"})");
  EXPECT_EQ(body({.kind = Kind::kRefused, .reason = "UnknownTenant"}),
            R"({"allowed":false,"reason":"UnknownTenant","duplicate":false})");
  EXPECT_EQ(body({.kind = Kind::kStatus, .reason = "ZeroBalance", .end_call = true}),
            R"({"endCall":true,"reason":"ZeroBalance","duplicate":false})");
  EXPECT_EQ(body({.kind = Kind::kIgnored}), R"({"status":"ignored"})");
  EXPECT_EQ(body({.kind = Kind::kUnpaid, .reason = "DebtLimitExceeded"}),
            R"({"status":"unpaid","reason":"DebtLimitExceeded","duplicate":false})");
}

TEST(VapiAdapter, KnowsItsThreeWaysToProveItself) {
  const std::string body = R"({"message":{}})";
  const auto secret = made(kVapiAdapter, {"the one before it", kVapiSecret});
  EXPECT_TRUE(known(*secret, request(body, {{"x-vapi-secret", kVapiSecret}})));
  EXPECT_TRUE(known(*secret, request(body, {{"x-vapi-secret", "the one before it"}})));
  const auto bearer = made(kVapiAdapter, {kVapiSecret}, R"({"authentication":"bearer"})");
  EXPECT_TRUE(known(*bearer, request(body, {{"authorization", "Bearer " + kVapiSecret}})));
  EXPECT_FALSE(known(*bearer, request(body, {{"x-vapi-secret", kVapiSecret}})));
  // Computed by Python's hmac.
  const auto plain =
      made(kVapiAdapter, {kVapiSecret}, R"({"authentication":"hmac","signatureHeader":"X-Vapi-Signature"})");
  EXPECT_TRUE(known(*plain, request(body, {{"x-vapi-signature",
                                            "518e306dfe8a0c32845ef0c3fd6aef5a5026702a459eebbad4ab0fd2db5ea30a"}})));
  const auto timed = made(kVapiAdapter, {kVapiSecret},
                          R"({"authentication":"hmac","timestampHeader":"X-Timestamp","signaturePrefix":"sha256="})");
  const HeaderList headers = {
      {"x-timestamp", "1795255666"},
      {"x-signature", "sha256=ec94d3c22e2b472a2079cff1e0356e66f82b0d11382604a07cdaa068549c5c06"}};
  EXPECT_TRUE(known(*timed, request(body, headers)));
  EXPECT_FALSE(known(*timed, request(body, headers), kNow + 301));
  const std::string ms = "1795255666123";
  EXPECT_TRUE(known(*timed, request(body, {{"x-timestamp", ms},
                                           {"x-signature",
                                            "sha256=" + hex_of(mac_of(EVP_sha256(), kVapiSecret, ms + "." + body))}})));
}

TEST(VapiAdapter, ReadsItsMessages) {
  const auto adapter = made(kVapiAdapter, {kVapiSecret});
  const std::string pointer = "/message/call/metadata/tenant";
  const auto from = [&](const std::string& body) { return read(*adapter, request(body, {}), pointer); };
  const Reading starting = from(golden_payload("vapi_assistant_request.json"));
  EXPECT_EQ(starting.external_id, "ext-acme");
  EXPECT_EQ(std::get<CallStarting>(starting.event).call_id, kCall);
  EXPECT_EQ(std::get<StatusCheck>(from(golden_payload("vapi_status_update.json")).event).call_id, kCall);
  const auto ended = std::get<CallEnded>(from(golden_payload("vapi_end_of_call_report.json")).event);
  EXPECT_EQ(ended.call_id, kCall);
  EXPECT_EQ(ended.cost.amount->text(), "0.1843");
  EXPECT_EQ(ended.cost.currency, "USD");
  EXPECT_EQ(ended.started_ns, parse_moment("2026-11-21T10:07:50.12Z"));
  const auto of = [&](const std::string& members) {
    return from(R"({"message":{"call":{"id":"x"},)" + members + "}}").event;
  };
  EXPECT_TRUE(std::get<Ignored>(of(R"("type":"status-update","status":"ended")")).known);
  EXPECT_TRUE(std::get<Ignored>(of(R"("type":"transcript[transcriptType=\"final\"]")")).known);
  EXPECT_FALSE(std::get<Ignored>(of(R"("type":"never-heard-of")")).known);
  EXPECT_FALSE(std::get<CallEnded>(of(R"("type":"end-of-call-report","cost":null)")).cost.amount);
  EXPECT_EQ(std::get<CallEnded>(of(R"("type":"end-of-call-report","cost":0)")).cost.amount->text(), "0");
}

TEST(VapiAdapter, AnswersInItsShapes) {
  const auto adapter = made(kVapiAdapter, {kVapiSecret}, R"({"assistantId":"a-1","refusalMessage":"No credit."})");
  using Kind = Outcome::Kind;
  const auto body = [&](const Outcome& outcome) { return adapter->answer(outcome).body; };
  EXPECT_EQ(body({.kind = Kind::kReserved}), R"({"assistantId":"a-1"})");
  EXPECT_EQ(body({.kind = Kind::kRefused}), R"({"error":"No credit."})");
  EXPECT_EQ(body({.kind = Kind::kStatus, .end_call = true}), R"({"endCall":true})");
  for (const Kind kind : {Kind::kStatus, Kind::kSettled, Kind::kUnpaid, Kind::kIgnored})
    EXPECT_EQ(body({.kind = kind}), "{}");
  EXPECT_EQ(adapter->answer({.kind = Kind::kRefused}).status, 200);
}

TEST(TwilioAdapter, VerifiesItsPublishedExample) {
  const auto adapter = made(kTwilioAdapter, {"12345"}, R"({"publicUrl":"https://mycompany.com/myapp.php"})");
  auto sent =
      request("CallSid=CA1234567890ABCDE&Caller=%2B12349013030&Digits=1234&From=%2B12349013030&To=%2B18005551212",
              {{"x-twilio-signature", "0/KCTR6DLpKmkAf8muzZqo1nDgQ="}}, "application/x-www-form-urlencoded");
  sent.query = "foo=1&bar=2";
  EXPECT_TRUE(known(*adapter, sent));
  sent.query = "foo=1&bar=3";
  EXPECT_FALSE(known(*adapter, sent));
}

// Twilio signs with the port or without, and who set publicUrl need not know which.
TEST(TwilioAdapter, TheDefaultPortMayBeSignedOrNot) {
  const std::string path = "/v1/providers/sms/events";
  const auto fits = [&](const std::string& configured, const std::string& signed_url) {
    const auto adapter = made(kTwilioAdapter, {kTwilioToken}, R"({"publicUrl":")" + configured + "\"}");
    const std::string signature = twilio_signature(kTwilioToken, signed_url + "?a=1", {{"MessageSid", "SM1"}});
    auto sent = request("MessageSid=SM1", {{"x-twilio-signature", signature}}, "application/x-www-form-urlencoded");
    sent.query = "a=1";
    return known(*adapter, sent);
  };
  const std::string plain = "https://billing.example.com" + path, port = "https://billing.example.com:443" + path;
  const std::string other = "https://billing.example.com:8443" + path;
  EXPECT_TRUE(fits(plain, plain));
  EXPECT_TRUE(fits(plain, port));
  EXPECT_TRUE(fits(port, plain));
  EXPECT_TRUE(fits(port, port));
  EXPECT_TRUE(fits(other, other));
  EXPECT_TRUE(fits(other, plain)) << "it signs the host alone, wherever it sends";
  EXPECT_FALSE(fits(plain, other));
  EXPECT_FALSE(fits(plain, "http://billing.example.com" + path));
  EXPECT_TRUE(fits("https://[2001:db8::7]" + path, "https://[2001:db8::7]:443" + path));
  EXPECT_TRUE(fits("https://user:pass@billing.example.com" + path, "https://user:pass@billing.example.com:443" + path));
}

TEST(TwilioAdapter, ReadsStatusesAndWhoseHoldItIs) {
  const auto adapter = made(kTwilioAdapter, {kTwilioToken}, R"({"publicUrl":")" + kPublicUrl + "\"}");
  const auto from = [&](const std::string& body, const std::string& query = "") {
    auto sent = request(body, {}, "application/x-www-form-urlencoded; charset=UTF-8");
    sent.query = query;
    return read(*adapter, sent, query.empty() ? "/AccountSid" : "/query/tenant");
  };
  const Reading delivered = from(golden_payload("twilio_delivered.form"));
  EXPECT_EQ(delivered.external_id, "ACd1f3a4c5e6078190a2b3c4d5e6f70812");
  const auto message = std::get<MessageStatus>(delivered.event);
  EXPECT_EQ(message.message_id, "SM0a1b2c3d4e5f60718293a4b5c6d7e8f9");
  EXPECT_TRUE(message.delivered);
  EXPECT_FALSE(message.price.amount);
  EXPECT_FALSE(std::get<MessageStatus>(from(golden_payload("twilio_undelivered.form")).event).delivered);
  const Reading chosen =
      from("MessageSid=SM1&MessageStatus=sent&Price=-0.00790&PriceUnit=usd", "tenant=acme&callId=order-17");
  EXPECT_EQ(chosen.external_id, "acme");
  EXPECT_EQ(std::get<MessageStatus>(chosen.event).message_id, "order-17");
  EXPECT_EQ(std::get<MessageStatus>(chosen.event).price.amount->text(), "0.0079");
  EXPECT_EQ(std::get<MessageStatus>(chosen.event).price.currency, "USD");
  EXPECT_TRUE(std::get<Ignored>(from("MessageSid=SM1&MessageStatus=queued").event).known);
  EXPECT_FALSE(std::get<Ignored>(from("MessageSid=SM1&MessageStatus=lost").event).known);
  EXPECT_EQ(adapter->answer({}).status, 204);
}

TEST(ProviderForm, IsReadStrictly) {
  const auto form = parse_form("a=1&b=%C3%BC+x&c=&d=%0A");
  ASSERT_TRUE(form);
  EXPECT_EQ(form->at("b"), "ü x");
  EXPECT_EQ(form->at("c"), "");
  EXPECT_TRUE(parse_form("")->empty());
  std::string many, most;
  for (int i = 0; i <= 100; ++i) (i < 100 ? most : many) += "&p" + std::to_string(i) + "=1";
  EXPECT_TRUE(parse_form(most.substr(1)));
  for (const std::string& bad :
       {std::string("a"), std::string("=1"), std::string("a=1&"), std::string("&a=1"), std::string("a=1&&b=2"),
        std::string("a=1&a=2"), std::string("a=%"), std::string("a=%4"), std::string("a=%zz"), std::string("a=%FF"),
        std::string("a=%00"), std::string("a=%1B"), "a=" + std::string(4097, 'x'), most.substr(1) + many}) {
    EXPECT_FALSE(parse_form(bad)) << bad.substr(0, 40);
  }
}

}  // namespace
}  // namespace tallygate::api
