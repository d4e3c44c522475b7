// POST /v1/leases: who may ask, what is refused, and that a repeated call changes nothing twice.
#include <nlohmann/json.hpp>

#include "core/redis_contract/keys.h"
#include "tests/integration/api/world.h"

namespace tallygate::testing {
namespace {

constexpr char kPath[] = "/v1/leases";
constexpr char kHeader[] = R"({"alg":"HS256","typ":"JWT"})";

// shop/acme with an hour's limit of 60, an open epoch and a sidecar in it.
struct LeaseWorld : ApiWorld {
  LeaseWorld() {
    const std::string shard = std::to_string(redis_contract::shard_of("shop/acme"));
    number("select o_number from epoch_open(array[" + shard + "], array[0::bigint], now())");
    number(
        "insert into incarnations (shard, incarnation, first_epoch, boot_id, pod, software, registered_at) values (" +
        shard + ", 'api-0.abc', 1, 'b', 'p', 's', now()) returning id");
    number(
        "insert into tenant_limits values ('shop/acme', 'calls-hour', 'api_calls', 60, 60, 'hard', 0, 'hour') "
        "returning 1");
    const int64_t hour = system_env().wall_s() / 3600 * 3600;
    bucket = "calls-hour@" + std::to_string(hour) + "+3600";
  }
  std::string body(const std::string& more, const std::string& epoch = "1") const {
    return R"({"incarnation":"api-0.abc","epoch":)" + epoch + (more.empty() ? "" : "," + more) + "}";
  }
  std::string wanted(const std::string& totals) const {
    return R"("buckets":[{"bucket":")" + bucket + "\"," + totals + "}]";
  }
  Answer lease(const std::string& text, const std::string& token = kLeaseToken) {
    return send({.method = "POST", .path = kPath, .body = text, .token = token});
  }
  nlohmann::json leased(const std::string& text) { return nlohmann::json::parse(lease(text).body); }
  int64_t lent() { return number("select coalesce(sum(lent), 0)::bigint from escrow_floats"); }
  std::string bucket;
};

TEST(ApiLeases, LeasesReturnsAndRepeats) {
  LeaseWorld w;
  for (int i = 0; i < 3; ++i) {
    const auto answer = w.leased(w.body(w.wanted(R"("least":10,"best":10)")));
    EXPECT_EQ(answer["status"], "GRANT") << answer;
    EXPECT_EQ(answer["buckets"][0]["granted"], 10);
    EXPECT_EQ(answer["buckets"][0]["remaining"], 50);
    EXPECT_EQ(w.lent(), 10);
  }
  EXPECT_EQ(w.leased(w.body(w.wanted(R"("least":10,"returned":4)")))["buckets"][0]["returned"], 4);
  EXPECT_EQ(w.lent(), 6);
  const auto dry = w.leased(w.body(w.wanted(R"("least":100)")));
  EXPECT_EQ(dry["status"], "DRY");
  EXPECT_EQ(dry["buckets"][0]["dry"], "1");
  EXPECT_EQ(w.lent(), 6) << "DenialIsFree";
  EXPECT_EQ(w.leased(w.body("", "7"))["status"], "EPOCH");
  const std::string closed = R"("closed":[{"bucket":")" + w.bucket + R"(","epoch":1,"spent":2}])";
  for (int i = 0; i < 2; ++i) EXPECT_EQ(w.leased(w.body(closed))["closed"][0]["absorbed"], 2);
  EXPECT_EQ(w.lent(), 2);
  EXPECT_EQ(w.leased(w.body(w.wanted(R"("least":20)")))["status"], "REG");
  EXPECT_EQ(w.metric("tallygate_operator_ledger_leased_units_total"), 10) << "once, however often it is asked for";
  const auto answered = [&](const char* answer) {
    return w.metric("tallygate_operator_ledger_leases_total{answer=\"" + std::string(answer) + "\"}");
  };
  EXPECT_EQ(answered("grant"), 4);
  EXPECT_EQ(answered("dry"), 1);
  EXPECT_EQ(answered("epoch"), 1);
  EXPECT_EQ(answered("not_registered"), 3) << "with the two that close";
  EXPECT_EQ(w.number("select count(*) from ledger_audit()"), 0);
}

TEST(ApiLeases, TellsTheTenantsDocumentWhereItIsAnother) {
  LeaseWorld w;
  const auto doc = w.leased(w.body(""));
  ASSERT_TRUE(doc.contains("tenant")) << doc;
  EXPECT_EQ(doc["tenant"]["id"], "shop/acme");
  EXPECT_FALSE(w.leased(w.body("\"version\":" + doc["version"].dump())).contains("tenant"));
  EXPECT_EQ(doc["suspended"], false);
  w.number("update tenants set suspended = true where id = 'shop/acme' returning 1");
  const auto suspended = w.leased(w.body(w.wanted("\"least\":1")));
  EXPECT_EQ(suspended["status"], "SUSPENDED");
  EXPECT_EQ(suspended["suspended"], true);
  EXPECT_EQ(w.lent(), 0);
}

TEST(ApiLeases, AreForWhoHasTheScope) {
  LeaseWorld w;
  const std::string text = w.body(w.wanted("\"least\":1"));
  EXPECT_EQ(w.lease(text, "").status, 401);
  for (const std::string& token : {kReadToken, kAcmeToken})
    EXPECT_EQ(w.lease(text, token).member("reason"), "ScopeMissing");
  const int64_t now = system_env().wall_s();
  const auto jwt = [&](const std::string& scope) {
    return sign_hs256(kHeader, R"({"iss":"https://issuer.example/","aud":"tallygate","sub":"u","exp":)" +
                                   std::to_string(now + 60) + R"(,"scope":")" + scope +
                                   R"(","app_metadata":{"org_id":"ext-acme"}})");
  };
  EXPECT_EQ(w.lease(text, jwt("tallygate:wallet:read tallygate:wallet:write tallygate:usage:write")).member("reason"),
            "ScopeMissing");
  EXPECT_EQ(w.lease(text, jwt("lease:write tallygate:lease:write")).member("reason"), "ScopeMissing");
  EXPECT_EQ(w.send({.method = "POST", .path = kPath, .body = text, .token = kLeaseToken, .tenant = "shop/globex"})
                .member("reason"),
            "TenantNotAllowed");
  EXPECT_EQ(w.send({.token = kLeaseToken}).member("reason"), "ScopeMissing") << "leases, and nothing else";
  EXPECT_EQ(w.send({.method = "POST", .path = kPath, .body = text, .token = kAdminToken, .tenant = "shop/nobody"})
                .member("reason"),
            "UnknownTenant");
}

// Sidecars' calls and the tenant's own have a rate limit each.
TEST(ApiLeases, DoNotUseUpTheTenantsRate) {
  LeaseWorld w;
  api::ApiSettings settings = w.settings;
  settings.rate_per_second = settings.rate_burst = 1;
  metrics::Registry registry;
  auto server = api::ApiServer::create(system_env(), w.url, std::nullopt, settings, registry);
  ASSERT_TRUE(server) << server.error().message;
  (*server)->offer(sample_manifests(system_env().wall_s()));
  ASSERT_TRUE((*server)->start());
  ApiClient client((*server)->port());
  const Ask lease{.method = "POST", .path = kPath, .body = w.body(""), .token = kLeaseToken};
  for (int i = 0; i < 10; ++i) EXPECT_EQ(client.send(lease).status, 200) << "pods ask more often than callers";
  int refused = 0;
  for (int i = 0; i < 200; ++i) refused += client.send(lease).status == 429 ? 1 : 0;
  EXPECT_GT(refused, 0);
  EXPECT_EQ(client.send({.token = kReadToken}).status, 200);
  EXPECT_EQ(client.send({.token = kReadToken}).status, 429);
}

TEST(ApiLeases, RefuseBadInputWithItsField) {
  LeaseWorld w;
  const auto refused = [&](const std::string& text, const std::string& field) {
    const Answer answer = w.lease(text);
    EXPECT_EQ(answer.status, 422) << text << " -> " << answer.body;
    EXPECT_NE(answer.body.find("\"field\":\"" + field + "\""), std::string::npos) << text << " -> " << answer.body;
  };
  const auto bucket = [&](const std::string& id) {
    return w.body(R"("buckets":[{"bucket":")" + id + R"(","least":1}])");
  };
  refused("{}", "incarnation");
  refused(R"({"incarnation":"a b","epoch":1})", "incarnation");
  refused(R"({"incarnation":")" + std::string(81, 'a') + R"(","epoch":1})", "incarnation");
  refused(R"({"incarnation":"a"})", "epoch");
  refused(w.body("", "-1"), "epoch");
  refused(w.body("", "1.5"), "epoch");
  refused(w.body("\"more\":1"), "more");
  refused(w.body("\"version\":\"1\""), "version");
  refused(w.body("\"buckets\":{}"), "buckets");
  refused(w.body("\"buckets\":[1]"), "buckets[0].");
  refused(w.body("\"buckets\":[{}]"), "buckets[0].bucket");
  for (const char* id : {"", "calls", "calls@1", "calls@1+", "calls@01+3600", "calls@-1+3600", "calls@x+3600", "Calls$",
                         "$", "a|b$", "'; drop table wallets; --$"}) {
    refused(bucket(id), "buckets[0].bucket");
  }
  refused(bucket("burst@1795000000+60"), "buckets[0].bucket");
  EXPECT_NE(w.lease(bucket("burst@1795000000+60")).body.find("live in Redis alone"), std::string::npos);
  refused(bucket(std::string(200, 'a') + "$"), "buckets[0].bucket");
  refused(w.body(w.wanted(R"("least":-1)")), "buckets[0].least");
  refused(w.body(w.wanted(R"("least":9007199254740992)")), "buckets[0].least");
  refused(w.body(w.wanted(R"("least":"1")")), "buckets[0].least");
  refused(w.body(w.wanted(R"("least":2,"best":1)")), "buckets[0].best");
  refused(w.body(w.wanted(R"("least":2,"returned":-1)")), "buckets[0].returned");
  refused(w.body(w.wanted(R"("least":2,"x":1)")), "buckets[0].x");
  const std::string one = R"({"bucket":")" + w.bucket + R"(","least":1})";
  refused(w.body("\"buckets\":[" + one + "," + one + "]"), "buckets[1].bucket");
  std::string many = "{}";
  for (int i = 0; i < 64; ++i) many += ",{}";
  refused(w.body("\"buckets\":[" + many + "]"), "buckets");
  refused(w.body(R"("closed":[{"bucket":")" + w.bucket + R"(","epoch":0,"spent":1}])"), "closed[0].epoch");
  refused(w.body(R"("closed":[{"bucket":")" + w.bucket + R"(","epoch":1}])"), "closed[0].spent");
  EXPECT_EQ(w.lease("[]").status, 400);
  EXPECT_EQ(w.number("select count(*) from ledger_leases"), 0);
}

}  // namespace
}  // namespace tallygate::testing
