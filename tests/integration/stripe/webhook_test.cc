// POST /v1/webhooks/stripe on a real PostgreSQL: what is signed is kept once and answered, what is not changes nothing.
#include <atomic>
#include <thread>

#include "tests/integration/api/world.h"
#include "tests/integration/stripe/events.h"
#include "tests/unit/stripe/signed.h"

namespace tallygate::testing {
namespace {

constexpr char kPath[] = "/v1/webhooks/stripe";
const std::string kSecret = "whsec_0123456789abcdef", kNext = "whsec_fedcba9876543210";

ApiWorld::Options with_secrets(bool offer = true) {
  ApiWorld::Options options;
  options.payments = stripe::PaymentSettings{};
  options.payments->webhook_secrets = {kSecret, kNext};
  options.offer = offer;
  return options;
}

Answer deliver(ApiWorld& world, const std::string& body, const std::string& secret = kSecret, int64_t late_s = 0) {
  return world.send({.method = "POST",
                     .path = kPath,
                     .body = body,
                     .headers = {{"Stripe-Signature", stripe_signature(secret, system_env().wall_s() - late_s, body)}}});
}

int64_t kept(ApiWorld& world) { return world.number("select count(*) from webhook_events"); }

TEST(StripeWebhook, KeepsAnEventOnceAndAnswersAtOnce) {
  ApiWorld world(with_secrets());
  const std::string body = event_text("evt_1", "refund.created", R"({"id":"re_1","object":"refund"})");
  EXPECT_EQ(deliver(world, body).status, 200);
  EXPECT_EQ(deliver(world, body, kNext).status, 200) << "again, under the secret that replaces the first";
  EXPECT_EQ(kept(world), 1);
  EXPECT_EQ(world.number("select count(*) from webhook_events where id = 'evt_1' and type = 'refund.created' and not livemode "
                         "and object_id = 're_1' and status = 'waiting' and found_by = 'webhook' and payload #>> "
                         "'{data,object,id}' = 're_1' and event_created_at = to_timestamp(1800000000)"),
            1);
  EXPECT_EQ(world.metric("tallygate_operator_webhook_received_total{result=\"accepted\"}"), 1);
  EXPECT_EQ(world.metric("tallygate_operator_webhook_received_total{result=\"duplicate\"}"), 1);
}

TEST(StripeWebhook, NeedsNeitherManifestsNorAToken) {
  ApiWorld world(with_secrets(false));
  EXPECT_EQ(world.get("/v1/wallet").status, 503);
  EXPECT_EQ(deliver(world, event_text("evt_1", "ping", "{}")).status, 200);
  EXPECT_EQ(kept(world), 1);
}

TEST(StripeWebhook, IsNotThereWithoutStripe) {
  ApiWorld world;
  EXPECT_EQ(deliver(world, event_text("evt_1", "ping", "{}")).status, 404);
  EXPECT_EQ(kept(world), 0);
}

TEST(StripeWebhook, AHundredCallersOfOneEvent) {
  ApiWorld world(with_secrets());
  const std::string body = event_text("evt_1", "ping", "{}");
  std::atomic<int> good = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < 20; ++i) {
    callers.emplace_back([&] {
      for (int k = 0; k < 5; ++k) good += deliver(world, body).status == 200 ? 1 : 0;
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(good, 100);
  EXPECT_EQ(kept(world), 1);
  EXPECT_EQ(world.metric("tallygate_operator_webhook_received_total{result=\"accepted\"}"), 1);
}

struct Bad {
  std::string name, body, signature;
  std::string says;
  int status = 400;
  std::string method = "POST";
};

std::vector<Bad> bad_requests() {
  const int64_t now_s = system_env().wall_s();
  const std::string good = event_text("evt_1", "refund.created", R"({"id":"re_1"})");
  const auto signed_ = [&](const std::string& body) { return stripe_signature(kSecret, now_s, body); };
  std::vector<Bad> rows = {
      {"no signature", good, "", "InvalidSignature"},
      {"nonsense", good, "nonsense", "InvalidSignature"},
      {"a bearer token in its place", good, "Bearer " + kSecret, "InvalidSignature"},
      {"another's secret", good, stripe_signature("whsec_strangers_secret", now_s, good), "InvalidSignature"},
      {"an empty secret", good, stripe_signature("", now_s, good), "InvalidSignature"},
      {"yesterday's", good, stripe_signature(kSecret, now_s - 86'400, good), "InvalidSignature"},
      {"tomorrow's", good, stripe_signature(kSecret, now_s + 86'400, good), "InvalidSignature"},
      {"another body's", good, signed_(good + " "), "InvalidSignature"},
      {"two of them", good, signed_(good) + "\r\nStripe-Signature: " + signed_(good), "InvalidSignature"},
      {"live mode", event_text("evt_1", "ping", "{}", 1, "v", true), "", "WrongMode"},
      {"a GET", "", "", "MethodNotAllowed", 405, "GET"},
      {"a PUT", "", "", "MethodNotAllowed", 405, "PUT"},
  };
  const std::string bodies[] = {
      "", " ", "{", "}", "[]", "[{}]", "null", "true", "1", "\"evt_1\"", "{}", "{\"id\":\"evt_1\"}", "\xff\xfe", "<event/>",
      "id=evt_1&object=event", "{\"object\":\"event\"}", std::string("{}\0", 3), "{\"object\":\"event\",\"id\":1}",
      "{\"object\":\"event\",\"id\":\"evt_\xc3\x28\"}", "{'object':'event'}", std::string(20'000, '['), "NaN", "{\"a\":1e999}",
      event_text("", "ping", "{}"), event_text("1", "ping", "{}"), event_text("evt-1", "ping", "{}"),
      event_text("evt_1'--", "ping", "{}"), event_text("evt_1\\u0000", "ping", "{}"), event_text("evt_" + std::string(300, 'x'), "ping", "{}"),
      event_text("evt_1", "", "{}"), event_text("evt_1", "ping pong", "{}"), event_text("evt_1", std::string(300, 'x'), "{}"),
      event_text("evt_1", "ping", "{}", -1), event_text("evt_1", "ping", "{}", INT64_MAX), event_text("evt_1", "ping", "{}", 9'000'000'001),
      event_text("evt_1", "ping", "{}", 1, "a b"), event_text("evt_1", "ping", "{}", 1, std::string(300, '2')),
      event_text("evt_1", "ping", R"({"id":"\u0000"})"), event_text("evt_1", "ping", R"({"name":"a\u0000b"})"),
      event_text("evt_1", "ping", "{"), event_text("evt_1", "ping", "{}") + "{}", event_text("evt_1", "ping", "{}").substr(1),
      R"({"id":"evt_1","object":"event","type":"ping","livemode":"false","created":1,"data":{"object":{}}})",
      R"({"id":"evt_1","object":"event","type":"ping","livemode":0,"created":1,"data":{"object":{}}})",
      R"({"id":"evt_1","object":"event","type":"ping","livemode":null,"created":1,"data":{"object":{}}})",
      R"({"id":"evt_1","object":"event","type":"ping","created":1,"data":{"object":{}}})",
      R"({"id":"evt_1","object":"event","type":"ping","livemode":false,"data":{"object":{}}})",
      R"({"id":"evt_1","object":"event","type":["ping"],"livemode":false,"created":1})",
      R"({"id":["evt_1"],"object":"event","type":"ping","livemode":false,"created":1})",
      R"({"id":"evt_1","object":["event"],"type":"ping","livemode":false,"created":1})",
      R"({"id":"evt_1","object":"v2.core.event","type":"ping","livemode":false,"created":"2026-01-01T00:00:00Z"})"};
  for (const std::string& body : bodies) rows.push_back({"signed: " + body.substr(0, 60), body, signed_(body), "MalformedBody"});
  for (Bad& row : rows) {
    if (row.says == "WrongMode") row.signature = signed_(row.body);
  }
  return rows;
}

TEST(StripeWebhook, BadRequestsAreRefusedAndWriteNothing) {
  ApiWorld world(with_secrets());
  const auto rows = bad_requests();
  ASSERT_GE(rows.size(), 60u);
  for (const Bad& row : rows) {
    Ask ask{.method = row.method, .path = kPath, .body = row.body};
    if (!row.signature.empty()) ask.headers = {{"Stripe-Signature", row.signature}};
    const Answer answer = world.send(ask);
    EXPECT_EQ(answer.status, row.status) << row.name << ": " << answer.body;
    EXPECT_EQ(answer.member("reason"), row.says) << row.name << ": " << answer.body;
    EXPECT_EQ(answer.body.find("whsec_"), std::string::npos) << row.name;
  }
  EXPECT_EQ(kept(world), 0);
}

}  // namespace
}  // namespace tallygate::testing
