// Who may report, for whom, and what a refusal costs: nothing.
#include "tests/integration/api/provider_world.h"

namespace tallygate::testing {
namespace {

using World = ProviderWorld;

TEST(ProviderAccess, AnUnknownProviderAndAnUnsignedRequestAre401AndNothingElseIsSaid) {
  World world;
  world.credit("shop/acme", 10'000'000);
  const std::string books = world.books();
  const Ask nobodys = World::standard("call.starting", World::of("c"), "nobody");
  Ask unsigned_event = World::standard("call.starting", World::of("c"));
  unsigned_event.headers.clear();
  Ask tampered = World::standard("call.starting", World::of("c"));
  tampered.body += " ";
  Ask stale = World::standard("call.starting", World::of("c"));
  stale.headers = standard_headers(stale.body, system_env().wall_s() - 400);
  Ask with_token = unsigned_event;
  with_token.token = kAdminToken;
  Ask wrong_secret = World::vapi("assistant-request", "v");
  wrong_secret.headers[0].second += "x";
  Ask twice = World::vapi("assistant-request", "v");
  twice.headers.push_back(twice.headers[0]);
  Ask other_url = World::twilio("sent", "m");
  other_url.path += "&x=1";
  for (const auto& ask : {unsigned_event, tampered, stale, with_token, wrong_secret, twice, other_url, nobodys}) {
    const Answer answer = world.send(ask);
    EXPECT_EQ(answer.status, 401) << answer.body;
    EXPECT_EQ(answer.member("reason"), "Unauthenticated");
    EXPECT_EQ(answer.member("detail"), "");
    EXPECT_FALSE(answer.member("requestId").empty());
  }
  EXPECT_EQ(world.books(), books);
  const std::string metrics = world.registry->text();
  EXPECT_NE(metrics.find(R"(provider_events_total{provider="dialer",result="unauthenticated"} 4)"), std::string::npos)
      << metrics;
  EXPECT_NE(metrics.find("tallygate_operator_api_unauthenticated_total 8"), std::string::npos) << metrics;
}

// What needs no body is asked for before it; and only providers may send so much.
TEST(ProviderAccess, TheLimitOfABodyIsItsRoutes) {
  World world;
  const auto answer = [&](const std::string& path, const std::string& fields) {
    http::RawClient client(world.server->port());
    client.send("POST " + path + " HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n{");
    return parse_answer(client.read_response());
  };
  EXPECT_EQ(answer("/v1/providers/dialer/events", "Content-Length: 1048577\r\n").status, 413);
  EXPECT_EQ(answer("/v1/deductions", "Content-Length: 262145\r\nAuthorization: Bearer " + kAcmeToken + "\r\n").status,
            413);
  const Ask vapi = World::vapi("assistant-request", "v");
  EXPECT_EQ(answer(vapi.path, "Content-Length: 1000000\r\nX-Vapi-Secret: other\r\n").status, 401);
}

TEST(ProviderAccess, AProvidersSecretOpensNoOtherProvider) {
  World world;
  EXPECT_EQ(world.send(World::standard("call.starting", World::of("c"), "dialer", kIntercomSecret)).status, 401);
  EXPECT_EQ(world.send(World::standard("call.starting", World::of("c"), "intercom", kStandardSecret)).status, 401);
  Ask elsewhere = World::vapi("assistant-request", "v");
  elsewhere.path = "/v1/providers/dialer/events";
  EXPECT_EQ(world.send(elsewhere).status, 401);
}

TEST(ProviderAccess, AProviderReachesItsOwnTenantsOnly) {
  World world;
  for (const char* tenant : {"shop/acme", "shop/globex", "shop/initech"}) world.credit(tenant, 10'000'000);
  // Dialer may report for acme and globex.
  const Answer refused = world.send(World::standard("call.starting", World::of("c", "ext-initech")));
  EXPECT_EQ(refused.member("allowed"), "false");
  EXPECT_EQ(refused.member("reason"), "UnknownTenant") << "the same as for one that does not exist";
  EXPECT_EQ(world.send(World::standard("call.ended", World::of("c", "ext-initech") + R"(,"cost":1)")).status, 422);
  EXPECT_EQ(world.balance("shop/initech"), 10'000'000);
  // Intercom is for initech, whatever it says.
  const std::string acmes = World::of("c", "ext-acme") + R"(,"cost":1)";
  EXPECT_EQ(world.send(World::standard("call.ended", acmes, "intercom", kIntercomSecret)).member("status"), "settled");
  EXPECT_EQ(world.balance(), 10'000'000);
  EXPECT_EQ(world.balance("shop/initech"), 9'000'000);
}

TEST(ProviderAccess, CallsOfTwoProvidersAndOfTwoTenantsNeverMeet) {
  World world;
  for (const char* tenant : {"shop/acme", "shop/globex", "shop/initech"}) world.credit(tenant, 10'000'000);
  EXPECT_EQ(world.send(World::standard("call.ended", World::of("same") + R"(,"cost":1)")).member("status"), "settled");
  EXPECT_EQ(world.send(World::vapi("end-of-call-report", "same", R"(,"cost":1)")).status, 200);
  EXPECT_EQ(world.balance(), 10'000'000 - 1'000'000 - 948'000);
  // A provider's ids are its customers' own: two tenants may have one.
  EXPECT_EQ(world.send(World::standard("call.starting", World::of("same", "ext-globex"))).member("allowed"), "true");
  const Ask other = World::standard("call.ended", World::of("same", "ext-globex") + R"(,"cost":2)");
  EXPECT_EQ(world.send(other).member("status"), "settled");
  EXPECT_EQ(world.balance("shop/globex"), 10'000'000 - 2'000'000);
  const std::string books = world.books();
  EXPECT_EQ(world.send(other).member("status"), "settled") << "once";
  EXPECT_EQ(world.send(World::standard("call.starting", World::of("same"))).status, 200);
  EXPECT_EQ(world.books(), books);
  EXPECT_EQ(world.balance(), 10'000'000 - 1'000'000 - 948'000) << "acme's is as it was";
  EXPECT_EQ(world.number("select count(*) from provider_calls where call_id = 'same'"), 3);
}

TEST(ProviderAccess, ARefusedStartCostsNothing) {
  World world;
  world.credit("shop/acme", 1'000'000);
  ASSERT_TRUE(world.session.exec("update tenants set suspended = true where id = 'shop/globex'"));
  world.credit("shop/globex", 10'000'000);
  const std::string books = world.books();
  const auto refused = [&](const Ask& ask, const std::string& reason) {
    const Answer answer = world.send(ask);
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.member("allowed"), "false");
    EXPECT_EQ(answer.member("reason"), reason) << answer.body;
  };
  refused(World::standard("call.starting", World::of("c")), "InsufficientBalance");
  refused(World::standard("call.starting", World::of("c", "ext-globex")), "Suspended");
  refused(World::standard("call.starting", World::of("c", "nobody")), "UnknownTenant");
  refused(World::standard("call.starting", R"("callId":"c","tenant":7)"), "UnknownTenant");
  for (const char* tenant : {"ext-acme", "ext-globex", "nobody"}) {
    EXPECT_EQ(world.send(World::vapi("assistant-request", "v", "", tenant)).body, R"({"error":"No credit."})");
  }
  EXPECT_EQ(world.send(World::standard("call.status", World::of("c", "nobody"))).member("endCall"), "true");
  EXPECT_EQ(world.books(), books);
  world.credit("shop/acme", 500'000);
  EXPECT_EQ(world.send(World::standard("call.starting", World::of("c"))).member("allowed"), "true")
      << "the same call, later";
}

TEST(ProviderAccess, WhatNobodyKnowsIsRefusedOrIgnoredAsTheSettingsSay) {
  World world;
  const Answer refused = world.send(World::standard("call.transferred", World::of("c")));
  EXPECT_EQ(refused.status, 422);
  EXPECT_EQ(refused.member("field"), "type");
  EXPECT_EQ(world.send(World::standard("call.transferred", "", "intercom", kIntercomSecret)).body,
            R"({"status":"ignored"})");
  EXPECT_EQ(world.send(World::standard("call.ended", World::of("c"))).status, 422) << "no cost";
}

TEST(ProviderAccess, BodiesMayBeLargeWhereReportsAre) {
  World world;
  world.credit("shop/acme", 10'000'000);
  const std::string transcript = R"(,"cost":1,"transcript":")" + std::string(700'000, 'x') + '"';
  EXPECT_EQ(world.send(World::vapi("end-of-call-report", "v", transcript)).status, 200);
  EXPECT_EQ(world.send(World::vapi("end-of-call-report", "w", R"(,"t":")" + std::string(1'100'000, 'x') + '"')).status,
            413);
  const Answer api =
      world.post("/v1/deductions", R"({"amount":"1","description":")" + std::string(300'000, 'x') + "\"}", "k");
  EXPECT_EQ(api.status, 413);
  EXPECT_EQ(world.balance(), 10'000'000 - 948'000);
}

TEST(ProviderAccess, AProvidersRateIsLimited) {
  World world([](ApiWorld& before) { before.settings.rate_per_second = before.settings.rate_burst = 1; });
  world.credit("shop/acme", 10'000'000);
  int limited = 0;
  for (int i = 0; i < 3; ++i) {
    const Answer answer = world.send(World::standard("call.status", World::of("c")));
    if (answer.status == 429) ++limited;
    EXPECT_TRUE(answer.status == 200 || answer.head.find("Retry-After: 1") != std::string::npos) << answer.head;
  }
  EXPECT_GE(limited, 1);
}

// What one tenant's calls report in numbers keeps no other tenant's kill switch waiting, nor its own.
TEST(ProviderAccess, ATenantsEventsUseUpNobodyElsesRate) {
  World world([](ApiWorld& before) { before.settings.rate_per_second = before.settings.rate_burst = 20; });
  world.credit("shop/acme", 1'000'000'000);
  world.credit("shop/globex", 10'000'000);
  int limited = 0;
  for (int i = 0; i < 100; ++i) {
    limited +=
        world.send(World::standard("call.ended", World::of("c" + std::to_string(i)) + R"(,"cost":"0.01")")).status ==
        429;
  }
  EXPECT_GT(limited, 50);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(world.send(World::standard("call.status", World::of("c"))).status, 200) << "acme's own kill switch";
    EXPECT_EQ(world.send(World::standard("call.status", World::of("d", "ext-globex"))).status, 200);
  }
}

TEST(ProviderAccess, WhileTheLedgerIsBusyTheProviderIsToSendItAgain) {
  World world([](ApiWorld& before) { before.settings.deadline_ms = 200; });
  world.credit("shop/acme", 10'000'000);
  const Ask report = World::standard("call.ended", World::of("c") + R"(,"cost":1)");
  ledger::Session other(world.url);
  const auto held = other.transact([&](ledger::Transaction& transaction) -> Result<void> {
    if (auto locked = transaction.exec("lock table wallets"); !locked) return tl::unexpected(locked.error());
    const Answer answer = world.send(report);
    EXPECT_EQ(answer.status, 503) << answer.body;
    EXPECT_NE(answer.head.find("Retry-After"), std::string::npos) << answer.head;
    return {};
  });
  ASSERT_TRUE(held) << held.error().message;
  EXPECT_EQ(world.send(report).member("duplicate"), "false");
  EXPECT_EQ(world.balance(), 9'000'000);
}

TEST(ProviderAccess, FaultsOfTheFileStopTheStartAllAtOnce) {
  const std::string broken = R"({"providers":[{"name":"A b"},{"name":"b","adapter":"acme"}]})";
  try {
    ApiWorld world(broken);
    FAIL() << "it started";
  } catch (const std::runtime_error& error) {
    for (const char* part : {"providers.json", "providers[0].name", "providers[0].secrets", "providers[1].adapter"}) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }
}

// A secret that rotates, and a provider that comes, without restart; a file that is wrong changes nothing.
TEST(ProviderAccess, SecretsAndProvidersChangeWithoutRestart) {
  ProviderWorld world;
  const std::string rotated = "whsec_" + to_base64(std::string(32, 'r'));
  const auto status = [&](const std::string& secret, const std::string& provider = "dialer") {
    return world.send(ProviderWorld::standard("call.status", ProviderWorld::of("c"), provider, secret)).status;
  };
  const auto soon = [](const std::function<bool()>& done) {
    for (int i = 0; i < 500 && !done(); ++i) system_env().sleep_ms(10);
    return done();
  };
  ASSERT_EQ(status(kStandardSecret), 200);
  ASSERT_EQ(status(rotated), 401);
  std::ofstream(world.folder + "/standard") << rotated;
  ASSERT_TRUE(soon([&] { return status(rotated) == 200; }));
  EXPECT_EQ(status(kStandardSecret), 401) << "revoked";

  std::ofstream(world.folder + "/standard") << "";
  const std::string gauge = "tallygate_operator_api_reload_failed{what=\"providers\"}";
  ASSERT_TRUE(soon([&] { return world.metric(gauge) == 1; }));
  EXPECT_NE(world.server->health().detail.find("which is empty"), std::string::npos) << world.server->health().detail;
  EXPECT_EQ(status(rotated), 200) << "what was in force serves on";
  std::ofstream(world.folder + "/standard") << kStandardSecret;
  ASSERT_TRUE(soon([&] { return world.metric(gauge) == 0; })) << "mending the secret is enough";
  EXPECT_EQ(status(kStandardSecret), 200);
}

}  // namespace
}  // namespace tallygate::testing
