// Who gets in: good tokens of every kind, bad ones of forty kinds, and no way from one tenant to another.
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <fstream>

#include "core/base64.h"
#include "operator/api/call.h"
#include "operator/api/service_tokens.h"
#include "tests/integration/api/world.h"

namespace tallygate::testing {
namespace {

constexpr char kHeader[] = R"({"alg":"HS256","typ":"JWT"})";

std::string payload(const std::string& more = "", const std::string& org = "ext-acme",
                    const std::string& scope = "tallygate:wallet:read tallygate:wallet:write") {
  const int64_t now = system_env().wall_s();
  return R"({"iss":"https://issuer.example/","aud":["other","tallygate"],"sub":"user-1","exp":)" +
         std::to_string(now + 600) + R"(,"scope":")" + scope + R"(","app_metadata":{"org_id":")" + org + R"("})" +
         more + "}";
}
std::string replaced(std::string text, const std::string& what, const std::string& with) {
  const size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), with);
}

struct BadToken {
  const char* name;
  std::string token;
};

std::vector<BadToken> bad_tokens() {
  const std::string good = sign_hs256(kHeader, payload());
  const auto first = good.find('.'), second = good.rfind('.');
  const std::string head = good.substr(0, first), body = good.substr(first + 1, second - first - 1),
                    mac = good.substr(second + 1);
  const std::string now = std::to_string(system_env().wall_s());
  const std::string exp = payload().substr(payload().find("\"exp\":"), 16);
  const auto with_header = [](const std::string& header) { return sign_hs256(header, payload()); };
  const auto with_payload = [](const std::string& text) { return sign_hs256(kHeader, text); };
  const auto b64 = [](const std::string& text) { return base64url_encode(text); };
  return {
      {"garbage", "garbage"},
      {"two parts", head + "." + body},
      {"four parts", good + ".x"},
      {"no signature", head + "." + body + "."},
      {"empty parts", ".."},
      {"another secret", sign_hs256(kHeader, payload(), "another secret that is long enough, too")},
      {"empty secret", sign_hs256(kHeader, payload(), "")},
      {"signature cut", good.substr(0, good.size() - 4)},
      {"signature longer", good + "AAAA"},
      {"signature changed", head + "." + body + "." + (mac[0] == 'A' ? "B" : "A") + mac.substr(1)},
      {"signature padded", good + "="},
      {"payload changed", head + "." + b64(payload("", "ext-globex")) + "." + mac},
      {"header changed", b64(R"({"alg":"HS256"})") + "." + body + "." + mac},
      {"alg none", b64(R"({"alg":"none"})") + "." + body + "."},
      {"alg none, signed", with_header(R"({"alg":"none"})")},
      {"alg None", with_header(R"({"alg":"None"})")},
      {"alg NONE without signature", b64(R"({"alg":"NONE"})") + "." + body + "."},
      {"alg RS256 with an HMAC", with_header(R"({"alg":"RS256"})")},
      {"alg ES256 with an HMAC", with_header(R"({"alg":"ES256"})")},
      {"alg HS384", with_header(R"({"alg":"HS384"})")},
      {"alg HS512", with_header(R"({"alg":"HS512"})")},
      {"alg lower case", with_header(R"({"alg":"hs256"})")},
      {"alg a number", with_header(R"({"alg":256})")},
      {"alg an array", with_header(R"({"alg":["HS256"]})")},
      {"alg missing", with_header(R"({"typ":"JWT"})")},
      {"alg twice", with_header(R"({"alg":"HS256","alg":"none"})")},
      {"unknown kid", with_header(R"({"alg":"HS256","kid":"other"})")},
      {"kid a number", with_header(R"({"alg":"HS256","kid":1})")},
      {"kid a path", with_header(R"({"alg":"HS256","kid":"../../dev/null"})")},
      {"kid SQL", with_header(R"({"alg":"HS256","kid":"' or 1=1 --"})")},
      {"crit", with_header(R"({"alg":"HS256","crit":["b64"],"b64":false})")},
      {"zip", with_header(R"({"alg":"HS256","zip":"DEF"})")},
      {"header an array", with_header("[]")},
      {"header no JSON", with_header("alg=HS256")},
      {"header with a NUL", with_header(std::string("{\"alg\":\"HS256\"}\0", 16))},
      {"payload no JSON", with_payload("hello")},
      {"payload an array", with_payload("[]")},
      {"payload with a member twice", with_payload(payload(R"(,"sub":"x")"))},
      {"payload nested without end", with_payload(payload(",\"x\":" + std::string(40, '[') + std::string(40, ']')))},
      {"no exp", with_payload(replaced(payload(), "\"exp\"", "\"ex\""))},
      {"expired", with_payload(replaced(payload(), exp, "\"exp\":" + std::to_string(system_env().wall_s() - 31)))},
      {"exp a string", with_payload(replaced(payload(), exp, "\"exp\":\"9999999999\""))},
      {"exp negative", with_payload(replaced(payload(), exp, "\"exp\":-1"))},
      {"exp beyond reason", with_payload(replaced(payload(), exp, "\"exp\":1e300"))},
      {"exp null", with_payload(replaced(payload(), exp, "\"exp\":null"))},
      {"nbf in the future", with_payload(payload(",\"nbf\":" + std::to_string(system_env().wall_s() + 60)))},
      {"nbf a string", with_payload(payload(",\"nbf\":\"" + now + "\""))},
      {"iat in the future", with_payload(payload(",\"iat\":" + std::to_string(system_env().wall_s() + 3600)))},
      {"another issuer", with_payload(replaced(payload(), "issuer.example/", "issuer.example"))},
      {"issuer an array",
       with_payload(replaced(payload(), "\"https://issuer.example/\"", "[\"https://issuer.example/\"]"))},
      {"no issuer", with_payload(replaced(payload(), "\"iss\"", "\"is\""))},
      {"another audience", with_payload(replaced(payload(), "\"tallygate\"", "\"tallygat\""))},
      {"audience with a number", with_payload(replaced(payload(), "\"other\"", "1"))},
      {"no audience", with_payload(replaced(payload(), "\"aud\"", "\"au\""))},
      {"sub a number", with_payload(replaced(payload(), "\"user-1\"", "1"))},
      {"scope a number", with_payload(replaced(payload(), "\"tallygate:wallet:read tallygate:wallet:write\"", "[7]"))},
      {"tenant's claim a number", with_payload(replaced(payload(), "\"ext-acme\"", "7"))},
      {"too long", with_payload(payload(",\"x\":\"" + std::string(9000, 'x') + "\""))},
      {"unknown service token", "tgs_0123456789abcdef0123456789abcdef"},
      {"service token cut", kAcmeToken.substr(0, kAcmeToken.size() - 1)},
      {"service token in another case", "TGS_" + kAcmeToken.substr(4)},
      {"service token's hash", "tgs_" + std::string(64, 'a')},
  };
}

TEST(ApiAccess, RefusesEveryBadTokenAlike) {
  ApiWorld world;
  const auto tokens = bad_tokens();
  EXPECT_GE(tokens.size(), 40u);
  for (const auto& [name, token] : tokens) {
    const Answer answer = world.send({.token = token});
    EXPECT_EQ(answer.status, 401) << name << ": " << answer.body;
    EXPECT_EQ(answer.member("detail"), "A valid bearer token is needed.") << name;
    EXPECT_NE(answer.head.find("WWW-Authenticate: Bearer"), std::string::npos) << name;
  }
  EXPECT_EQ(world.send({}).status, 401) << "without a token";
  EXPECT_EQ(world.send({.headers = {{"Authorization", "Basic YTpi"}}}).status, 401);
  EXPECT_EQ(world.send({.token = kAcmeToken, .headers = {{"Authorization", "Bearer " + kAcmeToken}}}).status, 401)
      << "twice";
}

TEST(ApiAccess, AnswersAreCountedByRouteAndKind) {
  ApiWorld world;
  world.credit("shop/acme", 1'000'000);
  EXPECT_EQ(world.get("/v1/wallet").status, 200);
  EXPECT_EQ(world.get("/v1/wallet").status, 200);
  EXPECT_EQ(world.get("/v1/wallet?in=dollars").status, 422);
  EXPECT_EQ(world.get("/v1/nothing").status, 404);
  const std::string metrics = world.registry->text();
  for (const char* line :
       {R"({method="GET",route="/v1/wallet",status="2xx"} 2)", R"({method="GET",route="/v1/wallet",status="4xx"} 1)",
        R"({method="OTHER",route="other",status="4xx"} 1)",
        R"({method="POST",route="/v1/deductions",status="5xx"} 0)"}) {
    EXPECT_NE(metrics.find(std::string("tallygate_operator_api_requests_total") + line + "\n"), std::string::npos)
        << line;
  }
}

TEST(ApiAccess, TakesAJwtWithinItsLeeway) {
  ApiWorld world;
  EXPECT_EQ(world.send({.token = sign_hs256(kHeader, payload())}).status, 200);
  const std::string exp = payload().substr(payload().find("\"exp\":"), 16);
  const auto late = replaced(payload(), exp, "\"exp\":" + std::to_string(system_env().wall_s() - 10));
  EXPECT_EQ(world.send({.token = sign_hs256(kHeader, late)}).status, 200);
}

TEST(ApiAccess, AJwtWithoutATenantOrScopeGetsNowhere) {
  ApiWorld world;
  EXPECT_EQ(world.send({.token = sign_hs256(kHeader, payload("", "ext-nobody"))}).member("reason"), "NoTenant");
  EXPECT_EQ(world.send({.token = sign_hs256(kHeader, payload("", "' or ''='"))}).status, 403);
  EXPECT_EQ(
      world.send({.token = sign_hs256(kHeader, payload("", "ext-acme", "openid tallygate:openid"))}).member("reason"),
      "ScopeMissing");
  EXPECT_EQ(
      world.send({.method = "POST", .path = "/v1/deductions", .body = "{}", .token = kReadToken, .key = "k"}).status,
      403);
}

// Each route × each kind of caller × each scope, cell by cell.
TEST(ApiAccess, EachRouteIsForItsScopeAndAdminAlone) {
  const std::vector<std::string> scopes = {"wallet:read", "wallet:write", "usage:write", "lease:write", "admin"};
  const auto token_of = [](const std::string& scope) { return "tgs_of_" + sha256_hex(scope).substr(0, 32); };
  struct Kind {
    const char* name;
    bool privileged;  // the flag
    std::function<std::string(const std::string& scope)> token;
    std::function<bool(const std::string& scope)> counts;  // whether the scope that is said is had
  };
  const auto jwt = [](const std::string& scope) { return sign_hs256(kHeader, payload("", "ext-acme", scope)); };
  const auto ordinary = [](const std::string& scope) { return scope != "admin" && scope != "lease:write"; };
  const auto always = [](const std::string&) { return true; };
  const auto never = [](const std::string&) { return false; };
  const std::vector<Kind> kinds = {
      {"service token", false, token_of, always},
      {"JWT", false, [&](const std::string& s) { return jwt("openid tallygate:" + s); }, ordinary},
      {"JWT without the prefix", false, [&](const std::string& s) { return jwt("openid " + s); }, never},
      {"JWT with another's prefix", false,
       [&](const std::string& s) { return jwt("other:" + s + " tallygate" + s + " tallygate:x:" + s); }, never},
      {"JWT, privileged", true, [&](const std::string& s) { return jwt("tallygate:" + s); }, always},
      {"JWT without the prefix, privileged", true, jwt, never},
  };
  for (const bool privileged : {false, true}) {
    ApiWorld world("", [&](ApiWorld& before) {
      before.settings.jwt_privileged = privileged;
      std::string tokens;
      for (const auto& scope : scopes) {
        tokens += (tokens.empty() ? "" : ",") + service_token("of" + std::to_string(tokens.size()), token_of(scope),
                                                              '"' + scope + '"', R"("shop/acme")");
      }
      std::ofstream(before.settings.service_tokens_file) << R"({"tokens":[)" << tokens << "]}";
    });
    for (const api::ApiRoute& route : api::api_routes()) {
      if (!route.scope) continue;  // providers prove who they are by their own schemes
      std::string path(route.pattern);
      while (path.find('{') != std::string::npos)
        path.replace(path.find('{'), path.find('}') - path.find('{') + 1, "x1");
      const auto send = [&](const std::string& token) {
        return world.send({.method = std::string(route.method),
                           .path = path,
                           .body = std::string_view(route.method) == "GET" ? "" : "{}",
                           .token = token,
                           .key = "k"});
      };
      EXPECT_EQ(send("").status, 401) << route.pattern;
      for (const Kind& kind : kinds) {
        if (kind.privileged != privileged) continue;
        for (const auto& scope : scopes) {
          const Answer answer = send(kind.token(scope));
          const bool may = kind.counts(scope) && (scope == "admin" || scope == to_string(*route.scope));
          const bool did = answer.status != 401 && answer.status != 403;
          EXPECT_EQ(did, may) << route.method << ' ' << route.pattern << ", " << kind.name << ", " << scope << ": "
                              << answer.status << answer.body;
          if (!may) {
            EXPECT_EQ(answer.member("reason"), "ScopeMissing") << route.pattern << ", " << kind.name << ", " << scope;
          }
        }
      }
    }
  }
}

// A page in a browser that asks and asks keeps the tenant's backend from nothing.
TEST(ApiAccess, AUsersTokenUsesUpNobodyElsesRate) {
  ApiWorld world("", [](ApiWorld& before) { before.settings.rate_per_second = before.settings.rate_burst = 40; });
  world.credit("shop/acme", 100'000'000);
  ApiClient browser(world.server->port()), backend(world.server->port());
  const Ask check{.method = "POST",
                  .path = "/v1/status-check",
                  .body = R"({"callId":"c"})",
                  .token = sign_hs256(kHeader, payload("", "ext-acme", "tallygate:wallet:read"))};
  int refused = 0;
  for (int i = 0; i < 200; ++i) refused += browser.send(check).status == 429;
  EXPECT_GT(refused, 100);
  for (int i = 0; i < 20; ++i) {
    const Answer paid = backend.send({.method = "POST",
                                      .path = "/v1/deductions",
                                      .body = R"({"amount":"1"})",
                                      .token = kAcmeToken,
                                      .key = "k" + std::to_string(i)});
    EXPECT_EQ(paid.status, 201) << paid.body;
    EXPECT_EQ(
        backend.send({.method = "POST", .path = "/v1/status-check", .body = R"({"callId":"c"})", .token = kAcmeToken})
            .status,
        200);
  }
}

TEST(ApiAccess, AUsersTokenThatSaysAdminGetsNoMoney) {
  ApiWorld world;
  world.credit("shop/acme", 1'000'000);
  for (const char* scope : {"openid admin", "tallygate:admin", "openid tallygate:admin tallygate:wallet:read"}) {
    const Answer answer = world.send({.method = "POST",
                                      .path = "/v1/wallet/adjustments",
                                      .body = R"({"amount":"1000000","reason":"mine"})",
                                      .token = sign_hs256(kHeader, payload("", "ext-acme", scope)),
                                      .key = "k"});
    EXPECT_EQ(answer.status, 403) << scope << answer.body;
  }
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "1.00");
}

// A Kubernetes API server's proxy keeps Authorization to itself.
TEST(ApiAccess, ATokenComesThroughAProxyInAHeaderOfItsOwn) {
  ApiWorld world;
  world.credit("shop/acme", 1'000'000);
  const auto proxied = [](const std::string& token) {
    return std::vector<std::pair<std::string, std::string>>{{"X-Tallygate-Authorization", "Bearer " + token}};
  };
  EXPECT_EQ(world.send({.headers = proxied(kAcmeToken)}).status, 200);
  EXPECT_EQ(world.send({.headers = proxied("tgs_unknown_0123456789abcdef01234")}).status, 401);
  auto twice = proxied(kAcmeToken);
  twice.push_back(twice.front());
  EXPECT_EQ(world.send({.headers = twice}).status, 401);
  EXPECT_EQ(world.send({.token = "tgs_unknown_0123456789abcdef01234", .headers = proxied(kAcmeToken)}).status, 401)
      << "Authorization is what counts where there is one";
}

// Who is behind an administrator's token is in the audit log, on the token's word; no other token may say so.
TEST(ApiAccess, AnAdministratorsTokenSaysForWhomItActs) {
  ApiWorld world;
  const auto adjust = [&](const std::string& token, const std::string& actor) {
    return world
        .send({.method = "POST",
               .path = "/v1/wallet/adjustments",
               .body = R"({"amount":"1","currency":"GBP","reason":"r"})",
               .token = token,
               .key = "k" + actor.substr(0, 8),
               .tenant = "shop/acme",
               .headers = {{"X-Tallygate-Actor", actor}}})
        .status;
  };
  EXPECT_EQ(adjust(kAdminToken, "kubectl:jane"), 201);
  EXPECT_EQ(adjust(kAdminToken, std::string(500, 'x')), 201);
  EXPECT_EQ(adjust(kAcmeToken, "kubectl:root"), 403);
  ledger::Session owner(world.url);
  const auto actors = owner.exec("select actor from audit_log where action like 'wallet.adjust%' order by id");
  ASSERT_TRUE(actors);
  ASSERT_EQ(actors->size(), 2u);
  EXPECT_EQ(actors->text(0, 0), "token:admin for kubectl:jane");
  EXPECT_EQ(actors->text(1, 0), "token:admin for " + std::string(200, 'x'));
}

TEST(ApiAccess, NoTokenReachesAnotherTenant) {
  ApiWorld world;
  world.credit("shop/acme", 5'000'000);
  world.credit("shop/globex", 7'000'000);
  ASSERT_EQ(world.post("/v1/reservations", R"({"callId":"secret-call","amount":"1"})", "r").status, 201);
  for (const std::string& tenant : {std::string("shop/acme"), std::string("shop/nobody")}) {
    const Answer answer = world.send({.token = kGlobexToken, .tenant = tenant});
    EXPECT_EQ(answer.status, 403);
    EXPECT_EQ(answer.member("reason"), "TenantNotAllowed") << "the same whether it exists or not";
  }
  EXPECT_EQ(world.send({.token = sign_hs256(kHeader, payload()), .tenant = "shop/globex"}).status, 403);
  EXPECT_EQ(world.send({.path = "/v1/reservations/secret-call", .token = kGlobexToken}).status, 404);
  const Ask commit{.method = "POST",
                   .path = "/v1/reservations/secret-call/release",
                   .body = "{}",
                   .token = kGlobexToken,
                   .key = "x"};
  EXPECT_EQ(world.send(commit).status, 404);
  EXPECT_EQ(world.send({.path = "/v1/wallet/transactions", .token = kGlobexToken}).body.find("secret-call"),
            std::string::npos);
  EXPECT_EQ(world.get("/v1/reservations/secret-call").member("state"), "pending");
  EXPECT_EQ(world.send({.token = kGlobexToken}).member("balance"), "7.00");
  EXPECT_EQ(world.send({.token = kAdminToken}).status, 422) << "which tenant?";
  EXPECT_EQ(world.send({.token = kAdminToken, .tenant = "shop/nobody"}).status, 404);
}

// A key of one tenant means nothing to another.
TEST(ApiAccess, KeysAreATenantsOwn) {
  ApiWorld world;
  world.credit("shop/acme", 5'000'000);
  world.credit("shop/globex", 7'000'000);
  ASSERT_EQ(world.post("/v1/deductions", R"({"amount":"1"})", "shared").status, 201);
  const Ask ask{
      .method = "POST", .path = "/v1/deductions", .body = R"({"amount":"2"})", .token = kGlobexToken, .key = "shared"};
  EXPECT_EQ(world.send(ask).status, 201);
}

// --api-database-url: a login that can be nothing but the API.
TEST(ApiAccess, TheApiServesWithALoginThatIsAMemberOfItsRoleAlone) {
  ApiWorld world({.prepare = [](ApiWorld& before) {
    ASSERT_TRUE(before.session.exec("create role api_alone login"));
    ASSERT_TRUE(before.session.exec("grant tallygate_api to api_alone"));
    const size_t user = before.url.find("//") + 2;
    before.api_url = before.url.substr(0, user) + "api_alone" + before.url.substr(before.url.find('@'));
  }});
  world.credit("shop/acme", 10'000'000);
  EXPECT_EQ(world.post("/v1/deductions", R"({"amount":"1"})", "d").status, 201);
  EXPECT_EQ(world.post("/v1/reservations", R"({"callId":"c","amount":"1"})", "r").status, 201);
  EXPECT_EQ(world.post("/v1/reservations/c/commit", R"({"cost":"1.5"})", "c").status, 200);
  EXPECT_EQ(world.post("/v1/status-check", R"({"callId":"c"})").status, 200);
  EXPECT_EQ(world.post("/v1/usage", R"({"id":"u","meter":"api_calls","units":3})").status, 201);
  EXPECT_EQ(world.get("/v1/wallet/transactions").status, 200);
  EXPECT_EQ(world.post("/v1/quotes", R"({"from":"USD","to":"GBP"})", "q").status, 201);
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "7.50");
  // What only an administrator may is done by the operator's login.
  EXPECT_EQ(world
                .send({.method = "POST",
                       .path = "/v1/wallet/adjustments",
                       .body = R"({"amount":"1","currency":"GBP","reason":"r"})",
                       .token = kAdminToken,
                       .key = "a",
                       .tenant = "shop/acme"})
                .status,
            201);
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "8.50");
  EXPECT_EQ(world.number("select count(*) from audit_log where action = 'wallet.adjust'"), 1);
  // Each route there is, by an administrator too: none fails for want of a right.
  for (const api::ApiRoute& route : api::api_routes()) {
    std::string path = route.pattern;
    for (const auto& [parameter, value] : {std::pair{"{call_id}", "c"}, {"{quote_id}", "none"}, {"{gate}", "none"}, {"{provider}", "none"}}) {
      if (const size_t at = path.find(parameter); at != path.npos) path.replace(at, std::string(parameter).size(), value);
    }
    for (const std::string& token : {kAcmeToken, kAdminToken}) {
      Ask ask{.method = route.method, .path = path, .token = token, .tenant = "shop/acme"};
      if (ask.method == "POST") ask.body = R"({"amount":"1","currency":"GBP","reason":"r","callId":"d"})";
      if (route.wants_key) ask.key = "all-" + path + token;
      EXPECT_LT(world.send(ask).status, 500) << route.method << " " << path;
    }
  }
  // The login itself makes no money.
  ledger::Session alone(world.api_url);
  EXPECT_FALSE(alone.exec("set role tallygate_admin"));
  EXPECT_FALSE(alone.exec("select adjust_wallet('shop/acme', 'k', null, 'GBP', 1000000, 'r', 'me', 'id', now())"));
}

TEST(ApiAccess, EveryAnswerNamesItsRequest) {
  ApiWorld world;
  const Answer given =
      world.send({.path = "/v1/reservations/none", .token = kAcmeToken, .headers = {{"X-Request-Id", "abc-1"}}});
  const std::string id = given.member("requestId");
  EXPECT_NE(given.head.find("X-Request-Id: " + id + "\r\n"), std::string::npos);
  ASSERT_EQ(id.size(), 32 + 6);
  EXPECT_EQ(id.substr(32), ".abc-1") << "ours, then the client's";
  // In the audit log too: nobody can pass for another request.
  const auto adjust = [&](const std::string& key) {
    const Answer adjusted = world.send({.method = "POST",
                                        .path = "/v1/wallet/adjustments",
                                        .body = R"({"amount":"1","currency":"GBP","reason":"r"})",
                                        .token = kAdminToken,
                                        .key = key,
                                        .tenant = "shop/acme",
                                        .headers = {{"X-Request-Id", "abc-1"}}});
    EXPECT_EQ(adjusted.status, 201) << adjusted.body;
  };
  adjust("a");
  adjust("b");
  EXPECT_EQ(
      world.number("select count(distinct request_id) from audit_log where request_id ~ '^[0-9a-f]{32}\\.abc-1$'"), 2);
  EXPECT_EQ(world.send({.token = kAcmeToken, .headers = {{"X-Request-Id", "not a token"}}}).head.find("not a token"),
            std::string::npos);
  EXPECT_EQ(world.send({.path = "/openapi.yaml"}).status, 200) << "for everybody";
}

}  // namespace
}  // namespace tallygate::testing
