// Gates and usage through the API.
#include <thread>

#include "core/sha256.h"
#include "operator/api/text.h"
#include "tests/integration/api/world.h"

namespace tallygate::testing {
namespace {

std::string usage(const std::string& id, const std::string& meter, int units) {
  return R"({"id":")" + id + R"(","meter":")" + meter + R"(","units":)" + std::to_string(units) + "}";
}

TEST(ApiUsage, IsBookedOnceByItsIdAndCountsInItsQuota) {
  ApiWorld world;
  const Answer first = world.post("/v1/usage", usage("u1", "api_calls", 30));
  ASSERT_EQ(first.status, 201) << first.body;
  EXPECT_EQ(first.member("duplicate"), "false");
  EXPECT_EQ(world.post("/v1/usage", usage("u1", "api_calls", 30)).member("duplicate"), "true");
  EXPECT_EQ(world.post("/v1/usage", usage("u1", "api_calls", 31)).status, 422);
  const Answer now = world.get("/v1/usage");
  ASSERT_EQ(now.status, 200) << now.body;
  EXPECT_EQ(now.member("used"), "30");
  EXPECT_EQ(now.member("remaining"), "70");
  EXPECT_EQ(world.number("select count(*) from usage_records where tenant = 'shop/acme'"), 1);
  const Answer projection = world.get("/v1/usage/projection");
  EXPECT_EQ(projection.status, 200);
  EXPECT_GE(std::stoll(projection.member("projected")), 30);
  const Answer history = world.get("/v1/usage/history?step=hour");
  EXPECT_EQ(history.member("units"), "30") << history.body;
  EXPECT_EQ(world.send({.path = "/v1/usage/history", .token = kGlobexToken}).member("units"), "");
}

TEST(ApiUsage, AProjectionNamesNoMomentForWhatIsPassedAlready) {
  ApiWorld world;
  ASSERT_EQ(world.post("/v1/usage", usage("u", "api_calls", 101)).status, 201);
  const Answer projection = world.get("/v1/usage/projection");
  EXPECT_GE(std::stoll(projection.member("projected")), 101) << projection.body;
  EXPECT_EQ(projection.body.find("exceedsAt"), std::string::npos) << projection.body;
}

TEST(ApiUsage, OfAWalletsMeterIsPaidForByTheWallet) {
  ApiWorld world;
  world.credit("shop/acme", 1'000'000);
  ASSERT_EQ(world.post("/v1/usage", usage("m", "sms", 10)).status, 201);
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "0.60");
  EXPECT_EQ(
      world.number("select coalesce(sum(amount), 0) from ledger_postings p join ledger_accounts a on a.id = p.account "
                   "where a.commodity = 'GBP'"),
      0);
}

TEST(ApiUsage, IsInTheWalletsHistory) {
  ApiWorld world;
  world.credit("shop/acme", 1'000'000);
  for (int i = 0; i < 20; ++i) ASSERT_EQ(world.post("/v1/usage", usage("m" + std::to_string(i), "sms", 1)).status, 201);
  ASSERT_EQ(world.post("/v1/usage/corrections", R"({"id":"c","corrects":"m0","units":0,"reason":"was a test"})").status,
            201);
  const Answer page = world.get("/v1/wallet/transactions?limit=1");
  ASSERT_EQ(page.status, 200) << page.body;
  EXPECT_EQ(page.member("kind"), "usage_correction");
  EXPECT_EQ(page.member("amount"), "0.04");
  EXPECT_EQ(page.member("balanceAfter"), "0.24");
  EXPECT_EQ(page.member("description"), "was a test");
  EXPECT_NE(page.body.find(R"("usage":[{"meter":"sms","units":-1}])"), std::string::npos) << page.body;
  ASSERT_EQ(world.post("/v1/deductions", R"({"amount":"0.10"})", "later").status, 201);
  const Answer next = world.get("/v1/wallet/transactions?cursor=" + page.member("nextCursor"));
  EXPECT_EQ(next.member("kind"), "usage") << "20 reports are one line, unless an hour ended among them";
  EXPECT_EQ(next.member("balanceAfter"), "0.20");
  EXPECT_EQ(next.body.find("purchase"), std::string::npos) << "what came later is not on a later page";
  EXPECT_NE(next.body.find("\"credit\""), std::string::npos);
}

TEST(ApiUsage, OneIdSentManyTimesAtOnceIsBookedOnce) {
  ApiWorld world;
  std::vector<std::unique_ptr<ApiClient>> clients;
  for (int i = 0; i < 40; ++i) clients.push_back(std::make_unique<ApiClient>(world.server->port()));
  for (auto& client : clients)
    client->start({.method = "POST", .path = "/v1/usage", .body = usage("x", "api_calls", 5), .token = kAcmeToken});
  int fresh = 0;
  for (auto& client : clients) {
    const Answer answer = client->finish();
    EXPECT_EQ(answer.status, 201) << answer.body;
    fresh += answer.member("duplicate") == "false" ? 1 : 0;
  }
  EXPECT_EQ(fresh, 1);
  EXPECT_EQ(world.get("/v1/usage").member("used"), "5");
}

TEST(ApiCorrections, ChangeWhatUsageCountsAs) {
  ApiWorld world;
  world.credit("shop/acme", 1'000'000);
  ASSERT_EQ(world.post("/v1/usage", usage("m", "sms", 10)).status, 201);
  ASSERT_EQ(world.post("/v1/usage", usage("u", "api_calls", 100)).status, 201);
  const auto correct = [&](const std::string& id, const std::string& corrects, const std::string& units) {
    return world.post("/v1/usage/corrections", R"({"id":")" + id + R"(","corrects":")" + corrects + R"(","units":)" +
                                                   units + R"(,"reason":"counted twice"})");
  };
  const Answer first = correct("c1", "m", "4");
  ASSERT_EQ(first.status, 201) << first.body;
  EXPECT_EQ(first.member("previousUnits"), "10");
  EXPECT_EQ(first.member("units"), "4");
  EXPECT_EQ(first.member("duplicate"), "false");
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "0.84");
  const Answer again = correct("c1", "m", "4");
  EXPECT_EQ(again.status, 201);
  EXPECT_EQ(again.member("duplicate"), "true");
  EXPECT_EQ(again.member("previousUnits"), "10");
  EXPECT_EQ(again.member("time"), first.member("time"));
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "0.84");
  ASSERT_EQ(correct("c2", "u", "0").status, 201);
  EXPECT_EQ(world.get("/v1/usage").member("remaining"), "100") << "capacity comes back at once";
  EXPECT_EQ(world.number("select count(*) from audit_log where action = 'usage.correct' and reason = 'counted twice' "
                         "and actor = 'token:acme'"),
            2);
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);

  const Answer other_body = correct("c1", "m", "5");
  EXPECT_EQ(other_body.status, 422);
  EXPECT_NE(other_body.body.find("was used for another correction"), std::string::npos);
  const Answer unknown = correct("c3", "nothing", "5");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_NE(unknown.body.find("UnknownUsage"), std::string::npos);
  world.number("update usage_records set second = second - interval '36 days' where units = 100 returning 1");
  world.number(
      "alter table direct_usage disable trigger user; "
      "update direct_usage set booked_at = booked_at - interval '36 days' returning 1");
  const Answer old = correct("c4", "u", "5");
  EXPECT_EQ(old.status, 422);
  EXPECT_NE(old.body.find("34 days"), std::string::npos) << old.body;
  for (const char* units : {"-1", "1000000000001", "1.5", "null"}) EXPECT_EQ(correct("c5", "u", units).status, 422);
  EXPECT_EQ(world
                .send({.method = "POST",
                       .path = "/v1/usage/corrections",
                       .body = R"({"id":"x","corrects":"u","units":1,"reason":"r"})",
                       .token = kGlobexToken})
                .status,
            404)
      << "another tenant's usage does not exist";
  for (const auto& [result, count] : std::map<std::string, int>{
           {"new", 2}, {"duplicate", 1}, {"mismatch", 1}, {"unknown", 2}, {"too_old", 1}, {"settled_otherwise", 0}}) {
    EXPECT_EQ(world.metric("tallygate_operator_usage_corrections_total{result=\"" + result + "\"}"), count) << result;
  }
}

TEST(ApiEvents, OneAndABatchAreBookedOnce) {
  ApiWorld world;
  const auto event = [](const std::string& id, int units) {
    return R"({"specversion":"1.0","type":"dev.tallygate.usage.v1","source":"/app","traceparent":"00-x","id":")" + id +
           R"(","data":{"meter":"api_calls","units":)" + std::to_string(units) +
           R"(,"dimensions":{"model":"large","region":"eu"}}})";
  };
  const auto send = [&](const std::string& body, bool batch) {
    return world.send(
        {.method = "POST",
         .path = "/v1/events",
         .body = body,
         .token = kAcmeToken,
         .content_type = batch ? "application/cloudevents-batch+json" : "application/cloudevents+json; charset=utf-8"});
  };
  ASSERT_EQ(send(event("1", 3), false).status, 201);
  EXPECT_EQ(send(event("1", 3), false).member("duplicate"), "true");
  ASSERT_EQ(send("[" + event("1", 3) + "," + event("2", 4) + "," + event("3", 5) + "]", true).status, 201);
  const Answer mixed = send("[" + event("4", 1) + "," + event("2", 9) + "]", true);
  EXPECT_EQ(mixed.status, 422);
  EXPECT_NE(mixed.body.find("events[1].id"), std::string::npos);
  EXPECT_EQ(world.get("/v1/usage").member("used"), "12") << "of a batch that is refused nothing is booked";
}

// A moment has many spellings, and a batch may say one thing twice.
TEST(ApiUsage, IsTheSameWhateverTheSpellingOfItsMoment) {
  ApiWorld world;
  const int64_t at_ns = (system_env().wall_s() - 7200) * 1'000'000'000;
  const std::string z = api::format_moment(at_ns), bare = z.substr(0, z.size() - 1);
  std::string later = api::format_moment(at_ns + int64_t{3600} * 1'000'000'000);
  const auto send = [&](const std::string& time, int units = 1) {
    return world.post("/v1/usage", R"({"id":"u","meter":"api_calls","units":)" + std::to_string(units) +
                                       R"(,"time":")" + time + "\"}");
  };
  ASSERT_EQ(send(z).status, 201);
  std::string lower = z;
  for (char& c : lower) c = c == 'T' ? 't' : c == 'Z' ? 'z' : c;
  for (const std::string& same :
       {z, bare + "+00:00", bare + ".000Z", lower, later.substr(0, later.size() - 1) + "+01:00"}) {
    const Answer again = send(same);
    EXPECT_EQ(again.status, 201) << same << again.body;
    EXPECT_EQ(again.member("duplicate"), "true") << same;
  }
  EXPECT_EQ(send(later).status, 422);
  EXPECT_EQ(send(bare + ".5Z").status, 422);
  EXPECT_EQ(send(z, 2).status, 422);
  EXPECT_EQ(world.post("/v1/usage", R"({"id":"u","meter":"api_calls","units":1})").status, 422);
  // As an earlier version kept it, of the moment as it was written.
  ASSERT_EQ(
      world.post("/v1/usage", R"({"id":"old","meter":"api_calls","units":1,"time":")" + bare + "+00:00\"}").status,
      201);
  world.number("alter table direct_usage disable trigger user; update direct_usage set fingerprint = '" +
               sha256_hex(R"({"id":"old","meter":"api_calls","time":")" + bare + R"(+00:00","units":1})") +
               "' where request_id = 'old' returning 1");
  EXPECT_EQ(world.post("/v1/usage", R"({"id":"old","meter":"api_calls","units":1,"time":")" + bare + "+00:00\"}")
                .member("duplicate"),
            "true");
  EXPECT_EQ(world.get("/v1/usage").member("used"), "2");
}

// Refused at the door is what could not reach Stripe in time.
TEST(ApiUsage, IsTakenAsLongAsItCanBeBilledWithRoomForTheWay) {
  ApiWorld world;
  const auto send = [&](const std::string& id, int64_t age_s) {
    return world.post("/v1/usage", R"({"id":")" + id + R"(","meter":"api_calls","units":1,"time":")" +
                                       api::format_moment((system_env().wall_s() - age_s) * 1'000'000'000) + "\"}");
  };
  constexpr int64_t kDay = 86'400;
  EXPECT_EQ(send("fits", 34 * kDay - 60).status, 201);
  const Answer late = send("late", 34 * kDay + 5);
  EXPECT_EQ(late.status, 422);
  EXPECT_NE(late.body.find("34 days"), std::string::npos) << late.body;
  EXPECT_EQ(send("dead", 35 * kDay - 300).status, 422);
}

TEST(ApiEvents, OfABatchWhatComesTwiceIsOneAndWhatIsWrongIsToldOnRequest) {
  ApiWorld world;
  const auto event = [](const std::string& id, int units, const std::string& meter = "api_calls") {
    return R"({"specversion":"1.0","type":"dev.tallygate.usage.v1","source":"/app","id":")" + id +
           R"(","data":{"meter":")" + meter + R"(","units":)" + std::to_string(units) + "}}";
  };
  const auto send = [&](const std::string& body, const std::string& prefer = "",
                        const std::string& token = kAcmeToken) {
    Ask ask{.method = "POST",
            .path = "/v1/events",
            .body = body,
            .token = token,
            .content_type = "application/cloudevents-batch+json"};
    if (!prefer.empty()) ask.headers.emplace_back("Prefer", prefer);
    return world.send(ask);
  };
  const Answer twice = send("[" + event("1", 3) + "," + event("1", 3) + "]");
  EXPECT_EQ(twice.status, 201) << twice.body;
  EXPECT_NE(twice.body.find(R"("duplicate":false},{)"), std::string::npos) << twice.body;
  EXPECT_NE(twice.body.find(R"("duplicate":true}]})"), std::string::npos) << twice.body;
  const Answer other = send("[" + event("2", 1) + "," + event("2", 2) + "]");
  EXPECT_EQ(other.status, 422);
  EXPECT_NE(other.body.find("events[1].id"), std::string::npos) << other.body;
  EXPECT_EQ(world.get("/v1/usage").member("used"), "3");

  const std::string mixed = "[" + event("4", 5) + "," + event("5", -1) + "," + event("6", 1, "unsold") + ",7," +
                            event("1", 9) + "," + event("8", 2) + "," + event("8", 2) + "," + event("8", 3) + "]";
  EXPECT_EQ(send(mixed).status, 422);
  EXPECT_EQ(world.get("/v1/usage").member("used"), "3") << "all or none, unless asked for";
  for (const bool again : {false, true}) {
    const Answer lenient = send(mixed, "handling=lenient");
    EXPECT_EQ(lenient.status, 200) << lenient.body;
    EXPECT_NE(lenient.head.find("Preference-Applied: handling=lenient"), std::string::npos);
    for (const char* field : {"events[1].data.units", "events[2].meter", "events[3]", "events[4].id", "events[7].id"}) {
      EXPECT_NE(lenient.body.find("\"field\":\"" + std::string(field) + "\""), std::string::npos)
          << field << lenient.body;
    }
    EXPECT_EQ(lenient.body.find("events[0]"), std::string::npos);
    EXPECT_EQ(lenient.member("duplicate"), again ? "true" : "false");
    EXPECT_EQ(world.get("/v1/usage").member("used"), "10");
  }
  EXPECT_EQ(send(mixed, "handling=lenient", kGlobexToken).status, 200) << "another tenant's ids are its own";
  EXPECT_EQ(world.number("select booked from escrow_accounts where tenant = 'shop/globex'"), 5 + 9 + 2);
}

TEST(ApiGates, TellWhatIsAllowedAndWhatItCosts) {
  ApiWorld world;
  const auto check = [&](const std::string& gate, const std::string& body = "") {
    return world.post("/v1/gates/" + gate + "/check", body);
  };
  EXPECT_EQ(check("sms-send").member("reason"), "InsufficientBalance");
  world.credit("shop/acme", 1'000'000);
  const Answer sms = check("sms-send", R"({"times":3})");
  EXPECT_EQ(sms.status, 200) << sms.body;
  EXPECT_EQ(sms.member("allowed"), "true");
  EXPECT_EQ(sms.member("price"), "0.12");
  EXPECT_EQ(sms.member("settlement"), "Wallet");
  EXPECT_EQ(check("sign-in").member("allowed"), "true");
  EXPECT_EQ(check("knowledge-base").member("units"), "5");
  EXPECT_EQ(check("outbound-call").member("reason"), "NotEntitled");
  EXPECT_EQ(check("phone-number").member("reason"), "MeterNotInPlan");
  EXPECT_EQ(check("nothing").status, 404);
  world.number("select 1 from post_dispute('shop/acme', 'd', 'GBP', 1, true, '', now())");
  EXPECT_EQ(check("sign-in").member("reason"), "Suspended") << "by the ledger";
  world.number("select 1 from close_dispute('shop/acme', 'd', true, now())");
  EXPECT_EQ(check("sign-in").member("allowed"), "true");
  EXPECT_EQ(check("sms-send", R"({"policy":"shop/other"})").status, 404);
  ASSERT_EQ(world.post("/v1/usage", usage("all", "api_calls", 100)).status, 201);
  const Answer full = check("sign-in");
  EXPECT_EQ(full.member("reason"), "QuotaExhausted");
  EXPECT_EQ(full.member("limit"), "calls-day");
  EXPECT_EQ(world.number("select count(*) from usage_records"), 1) << "asking books nothing";
}

TEST(ApiRate, ATenantsBucketIsItsOwn) {
  ApiWorld world;
  world.server.reset();
  world.settings.rate_per_second = 1;
  world.settings.rate_burst = 4;  // of which one caller gets three
  metrics::Registry registry;
  auto server = api::ApiServer::create(system_env(), world.url, std::nullopt, world.settings, registry);
  ASSERT_TRUE(server);
  (*server)->offer(sample_manifests(system_env().wall_s()));
  ASSERT_TRUE((*server)->start());
  ApiClient client((*server)->port());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.send({.token = kAcmeToken}).status, 200);
  const Answer refused = client.send({.token = kAcmeToken});
  EXPECT_EQ(refused.status, 429);
  EXPECT_NE(refused.head.find("Retry-After: 1"), std::string::npos);
  EXPECT_EQ(client.send({.token = kGlobexToken}).status, 200);
}

}  // namespace
}  // namespace tallygate::testing
