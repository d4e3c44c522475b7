// Who calls, and may they call here (A9, A2).
#include "core/api_key.h"
#include "tests/integration/sidecar/world.h"

namespace tallygate::testing {
namespace {

using Headers = std::vector<std::pair<std::string, std::string>>;

class Identity : public ::testing::Test {
 protected:
  // Both kinds of source, the key first, on a tenant with much left.
  Pod& start(std::vector<tenant::IdentitySource> sources) {
    world.policy.identity = std::move(sources);
    world.ready(1000, 1000);
    world.op.put_identity("external", "acme-ext", kTenant);
    return world.pod();
  }
  World world;
};

TEST_F(Identity, Table) {
  Pod& pod = start({api_key_source(), trusted_source({"10.0.0.0/8", "fd00::/8", "192.168.1.1/32"})});
  const std::string long_key(1025, 'k');
  const struct {
    const char* name;
    Headers headers;
    const char* peer;
    const char* wanted;
  } cases[] = {
      {"key", {{"X-API-KEY", kKey}}, "8.8.8.8", "admitted"},
      {"trusted v4", {{"x-tenant", "acme-ext"}}, "10.9.8.7", "admitted"},
      {"trusted v6", {{"x-tenant", "acme-ext"}}, "fd12::1", "admitted"},
      {"trusted mapped", {{"x-tenant", "acme-ext"}}, "::ffff:10.1.1.1", "admitted"},
      {"one address", {{"x-tenant", "acme-ext"}}, "192.168.1.1", "admitted"},
      {"outside v4", {{"x-tenant", "acme-ext"}}, "11.0.0.1", "401 UntrustedSource"},
      {"outside v6", {{"x-tenant", "acme-ext"}}, "fe80::1", "401 UntrustedSource"},
      {"outside mapped", {{"x-tenant", "acme-ext"}}, "::ffff:192.168.1.2", "401 UntrustedSource"},
      {"no peer", {{"x-tenant", "acme-ext"}}, "", "401 UntrustedSource"},
      {"none", {}, "10.0.0.1", "401 Unauthenticated"},
      {"foreign headers", {{"x-api-key-2", kKey}, {"authorization", "Bearer x"}}, "10.0.0.1", "401 Unauthenticated"},
      {"two keys", {{"x-api-key", kKey}, {"X-Api-Key", kKey}}, "10.0.0.1", "401 InvalidCredential"},
      {"empty", {{"x-api-key", ""}}, "10.0.0.1", "401 InvalidCredential"},
      {"space inside", {{"x-api-key", "a b"}}, "10.0.0.1", "401 InvalidCredential"},
      {"long", {{"x-api-key", long_key}}, "10.0.0.1", "401 InvalidCredential"},
      {"high byte", {{"x-api-key", "k\xc3\xa9"}}, "10.0.0.1", "401 InvalidCredential"},
      {"unknown key", {{"x-api-key", "nobody's"}}, "10.0.0.1", "401 InvalidCredential"},
      {"unknown external id", {{"x-tenant", "nobody"}}, "10.0.0.1", "403 UnknownTenant"},
      {"an external id is no key", {{"x-api-key", "acme-ext"}}, "10.0.0.1", "401 InvalidCredential"},
      {"a key is no external id", {{"x-tenant", kKey}}, "10.0.0.1", "403 UnknownTenant"},
      {"wrong key beside a good id",
       {{"x-tenant", "acme-ext"}, {"x-api-key", "bad"}},
       "10.0.0.1",
       "401 InvalidCredential"},
      {"empty key beside a good id",
       {{"x-tenant", "acme-ext"}, {"x-api-key", ""}},
       "10.0.0.1",
       "401 InvalidCredential"},
      {"good key beside an untrusted id", {{"x-tenant", "other"}, {"x-api-key", kKey}}, "8.8.8.8", "admitted"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(world.outcome(pod, {"/", c.headers, "GET", c.peer}), c.wanted) << c.name;
  }
}

// While the pepper is introduced both forms are there, and sidecars with it and without.
TEST_F(Identity, AKeyIsFoundUnderItsPepperedHashAndUnderItsPlainOne) {
  const std::string pepper(32, 'p');
  world.policy.identity = {api_key_source()};
  world.ready(1000, 1000);
  Pod& plain = world.pod();
  Pod::Options options;
  options.pepper = pepper;
  Pod& peppered = world.pod(options);
  EXPECT_EQ(world.outcome(plain), "admitted");
  EXPECT_EQ(world.outcome(peppered), "admitted") << "under the plain one";
  const std::string name = peppered_hash(pepper, sidecar::sha256_hex("only-peppered"));
  world.op.put_identity(kPepperedKey, name, kTenant);
  const Ask with_it{"/", {{"x-api-key", "only-peppered"}}, "GET"};
  EXPECT_EQ(world.outcome(peppered, with_it), "admitted");
  EXPECT_EQ(world.outcome(plain, with_it), "401 InvalidCredential");
  EXPECT_EQ(world.outcome(peppered, {"/", {{"x-api-key", name}}, "GET"}), "401 InvalidCredential") << "a name is no key";
  EXPECT_EQ(world.outcome(peppered, {"/", {{"x-api-key", "nobody's"}}, "GET"}), "401 InvalidCredential");
  // Known by the plain one, which goes: by the other it is known still.
  world.op.put_identity(kPepperedKey, peppered_hash(pepper, sidecar::sha256_hex(kKey)), kTenant);
  world.op.remove_identity("apikey", kKey);
  EXPECT_TRUE(world.until([&] { return world.outcome(plain) == "401 InvalidCredential"; }));
  EXPECT_TRUE(world.until([&] { return world.outcome(peppered) == "admitted"; }));
}

TEST_F(Identity, TheOrderOfSourcesDecides) {
  Pod& pod = start({trusted_source({"10.0.0.0/8"}), api_key_source()});
  const Headers both{{"x-tenant", "acme-ext"}, {"x-api-key", kKey}};
  EXPECT_EQ(world.outcome(pod, {"/", both, "GET", "10.0.0.1"}), "admitted");
  EXPECT_EQ(world.outcome(pod, {"/", both, "GET", "8.8.8.8"}), "401 UntrustedSource");
}

// The app is told whose the request is, and gets the credential that said so; nobody's word for it but ours.
TEST_F(Identity, TheAppIsToldWhatWasVerified) {
  world.policy.routes = {route("health", "/healthz", {}), route("closed", "/closed", {})};
  world.policy.routes[0].action = tenant::RouteAction::kExempt;
  world.policy.routes[1].action = tenant::RouteAction::kDeny;
  Pod& pod = start({api_key_source(), trusted_source({"10.0.0.0/8"})});
  const std::string tenant = std::string("X-Tallygate-Tenant: ") + kTenant + "\r\n";
  const std::string key = std::string("x-api-key: ") + kKey + "\r\n";
  const auto told = [&](const Ask& what) {
    Call& call = world.ask(pod, what);
    if (!call.admitted()) return call.reason();
    pod.settle(call);
    return call.told;
  };
  const Headers both{{"X-API-Key", kKey}, {"x-tenant", "globex-ext"}};
  Call& cold = pod.begin({"/", both, "GET", "8.8.8.8"});
  ASSERT_TRUE(cold.waits()) << "the answer is the same after a wait";
  ASSERT_TRUE(world.until([&] { return !cold.waits(); }));
  EXPECT_EQ(cold.told, key + tenant);
  pod.settle(cold);
  EXPECT_EQ(told({"/", both, "GET", "8.8.8.8"}), key + tenant);
  EXPECT_EQ(told({"/", {{"x-tenant", "acme-ext"}}, "GET", "10.0.0.1"}), "x-tenant: acme-ext\r\n" + tenant);
  EXPECT_EQ(told({"/healthz", both, "GET", "10.0.0.1"}), "") << "nothing was verified";
  for (const char* spelling : {"X_Api_Key", "x.tenant", "X-TALLYGATE_TENANT"}) {
    EXPECT_TRUE(pod.admission->guarded().contains(spelling)) << spelling;
  }

  const auto edited = [&] {
    world.op.put(world.policy);
    return world.until([&] {
      return pod.directory->policy()->identity == world.policy.identity &&
             pod.directory->policy()->tenant_header == world.policy.tenant_header &&
             pod.directory->policy()->enforcement == world.policy.enforcement;
    });
  };
  world.policy.identity[0].forward = tenant::Forward::kNever;
  world.policy.tenant_header = "X-Whose";
  ASSERT_TRUE(edited());
  EXPECT_EQ(told({"/", both}), std::string("X-Whose: ") + kTenant + "\r\n");
  world.policy.identity[0].forward = tenant::Forward::kAlways;
  world.policy.tenant_header = "";
  ASSERT_TRUE(edited());
  EXPECT_EQ(told({"/", both}), "") << "the key goes as it came";
  EXPECT_FALSE(pod.admission->guarded().contains("x-api-key"));
  EXPECT_TRUE(pod.admission->guarded().contains("x_api_key"));

  world.policy.enforcement = tenant::Enforcement::kShadow;
  world.policy.identity[0].forward = tenant::Forward::kVerified;
  world.policy.tenant_header = tenant::kTenantHeader;
  ASSERT_TRUE(edited());
  EXPECT_EQ(told({"/", both}), key + tenant);
  // What the app gets does not change by a policy that only looks on.
  EXPECT_EQ(told({"/closed", both}), key);
  EXPECT_EQ(told({"/x/../closed", both}), key);
  EXPECT_EQ(told({"/", {{"X-Api-Key", "nobody's"}}}), "x-api-key: nobody's\r\n");
  EXPECT_EQ(told({"/", {{"X-Api-Key", "no key"}}}), "x-api-key: no key\r\n");
  EXPECT_EQ(told({"/", {{"X-Api-Key", kKey}, {"X-Api-Key", "nobody's"}}}), "") << "which of them?";
  EXPECT_EQ(told({"/", {{"X-Tenant", "nobody"}}, "GET", "10.0.0.1"}), "x-tenant: nobody\r\n");
  EXPECT_EQ(told({"/", {{"X-Tenant", "acme-ext"}}, "GET", "8.8.8.8"}), "") << "nobody's word for it";
  world.policy.identity.push_back({tenant::IdentityType::kJwt, "authorization", {}});
  ASSERT_TRUE(edited());
  EXPECT_EQ(told({"/", {{"Authorization", "Bearer e.y.J"}}}), "authorization: Bearer e.y.J\r\n");
  world.policy.identity[0].forward = tenant::Forward::kNever;
  ASSERT_TRUE(edited());
  EXPECT_EQ(told({"/", {{"X-Api-Key", "nobody's"}}}), "");
}

TEST_F(Identity, ADenialCanBeReadByThePagesThatThePolicyNames) {
  world.policy.cors.allow_origins = {"https://a.example"};
  world.policy.cors.allow_credentials = true;
  world.policy.routes = {route("closed", "/closed", {})};
  world.policy.routes[0].action = tenant::RouteAction::kDeny;
  Pod& pod = start({api_key_source()});
  const std::pair<std::string, std::string> ours{"Origin", "https://a.example"},
      asks{"Access-Control-Request-Method", "POST"};
  const std::string allow = "Access-Control-Allow-Origin: https://a.example\r\n";
  Call& denied = world.ask(pod, {"/", {ours}});
  EXPECT_NE(denied.denial.headers.find(allow), std::string::npos) << denied.denial.headers;
  Call& other = world.ask(pod, {"/", {{"Origin", "https://b.example"}}});
  EXPECT_EQ(other.denial.headers.find("Access-Control"), std::string::npos) << other.denial.headers;
  EXPECT_NE(other.denial.headers.find("Vary: Origin\r\n"), std::string::npos);
  std::string problem = "Allow: GET\r\n";
  pod.admission->problem_headers("https://a.example", &problem);
  EXPECT_EQ(problem.find("Allow: GET\r\nVary: Origin\r\n" + allow), 0u) << problem;
  Call& waited = pod.begin({"/", {ours, {"X-Api-Key", "nobody's"}}});
  ASSERT_TRUE(waited.waits());
  ASSERT_TRUE(world.until([&] { return !waited.waits(); }));
  EXPECT_NE(waited.denial.headers.find(allow), std::string::npos) << waited.denial.headers;

  Call& admitted = world.ask(pod, {"/", {ours, {"X-Api-Key", kKey}}});
  EXPECT_NE(pod.headers(admitted).find("Access-Control-Expose-Headers: RateLimit, "), std::string::npos);
  pod.settle(admitted);
}

// Nobody is named in it, so nobody could be charged: it must reach no handler.
TEST_F(Identity, APreflightIsAnsweredHereAsTheRequestThatIsToFollow) {
  world.policy.cors.allow_origins = {"https://a.example"};
  const auto with = [](tenant::Route r, std::vector<std::string> methods, tenant::RouteAction action) {
    r.matches[0].methods = std::move(methods);
    r.action = action;
    return r;
  };
  using Action = tenant::RouteAction;
  world.policy.routes = {with(route("chat", "/chat", {charge("api_calls")}), {"POST"}, Action::kCharge),
                         with(route("closed", "/closed", {}), {}, Action::kDeny),
                         with(route("own", "/own", {}), {"OPTIONS"}, Action::kExempt),
                         with(route("free", "/free", {}), {"GET"}, Action::kExempt)};
  world.policy.routes.push_back(route("marker", "/marker", {charge("api_calls", 500)}));
  world.policy.default_route.action = Action::kDeny;
  Pod& pod = start({api_key_source(), trusted_source({"10.0.0.0/8"})});
  const auto asked = [&](const char* path, const char* method, const char* origin = "https://a.example") {
    const Ask preflight{path,
                        {{"Origin", origin},
                         {"Access-Control-Request-Method", method},
                         {"Access-Control-Request-Headers", "content-type,x-api-key"}},
                        "OPTIONS"};
    Call& call = world.ask(pod, preflight);
    if (!call.admitted()) {
      return std::to_string(call.denial.status) + " " + (call.denial.status == 204 ? call.denial.body : call.reason());
    }
    const std::string told = call.told + pod.headers(call);
    pod.settle(call);
    return "the app's" + told;
  };
  EXPECT_EQ(asked("/chat", "POST"), "204 ") << "the default route of OPTIONS is closed, that of the POST is not";
  EXPECT_EQ(asked("/chat", "GET"), "403 RouteDenied");
  EXPECT_EQ(asked("/closed", "POST"), "403 RouteDenied");
  EXPECT_EQ(asked("/free/x", "GET"), "204 ");
  EXPECT_EQ(asked("/x/../chat", "POST"), "400 MalformedPath");
  EXPECT_EQ(asked("/own", "POST"), "the app's") << "the policy exempts the question";
  EXPECT_EQ(asked("/chat", "POST", "https://b.example"), "403 RouteDenied");
  const Call& consent = world.ask(pod, {"/chat",
                                        {{"Origin", "https://a.example"},
                                         {"Access-Control-Request-Method", "POST"},
                                         {"Access-Control-Request-Headers", "x-api-key"}},
                                        "OPTIONS"});
  EXPECT_NE(consent.denial.headers.find("Access-Control-Allow-Headers: x-api-key\r\n"), std::string::npos);

  world.policy.default_route.action = Action::kCharge;
  world.op.put(world.policy);
  ASSERT_TRUE(world.until([&] { return pod.directory->policy()->default_route.action == Action::kCharge; }));
  EXPECT_EQ(asked("/x", "POST"), "204 ");
  EXPECT_EQ(asked("/x", "POST", "https://b.example"), "401 Unauthenticated");
  world.policy.enforcement = tenant::Enforcement::kShadow;
  world.op.put(world.policy);
  ASSERT_TRUE(world.until([&] { return pod.directory->policy()->enforcement == world.policy.enforcement; }));
  EXPECT_EQ(asked("/x", "POST"), "the app's") << "nothing is answered in its place in shadow";
  ASSERT_EQ(world.outcome(pod, {"/marker"}), "admitted");
  ASSERT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket()) >= 500; }));
  EXPECT_EQ(world.op.booked(kTenant, world.bucket()), 500) << "none of them cost anything";
}

TEST_F(Identity, ABearerTokenUnderAPolicyThatWantsOneIsRefusedAndSaysWhy) {
  Pod& pod = start({{tenant::IdentityType::kJwt, "authorization", {}}, api_key_source()});
  Call& call = world.ask(pod, {"/", {{"Authorization", "Bearer e.y.J"}, {"X-Api-Key", kKey}}});
  EXPECT_EQ(call.denial.status, 401);
  EXPECT_NE(call.body()["detail"].get<std::string>().find("cannot verify bearer tokens"), std::string::npos);
}

TEST_F(Identity, A401SaysWhichCredentialIsWanted) {
  Pod& pod = start({api_key_source("x-shop-key")});
  Call& call = world.ask(pod, {"/", {}});
  EXPECT_NE(call.denial.headers.find("WWW-Authenticate: ApiKey realm=\"tallygate\"\r\n"), std::string::npos);
  EXPECT_NE(call.body()["detail"].get<std::string>().find("x-shop-key"), std::string::npos);
  world.policy.identity = {{tenant::IdentityType::kJwt, "authorization", {}}};
  world.op.put(world.policy);
  ASSERT_TRUE(world.until([&] { return pod.directory->policy()->identity == world.policy.identity; }));
  Call& bearer = world.ask(pod, {"/", {}});
  EXPECT_NE(bearer.denial.headers.find("WWW-Authenticate: Bearer realm=\"tallygate\"\r\n"), std::string::npos)
      << bearer.denial.headers;
}

TEST_F(Identity, ATenantIsBilledOnlyWhereItAllowsIt) {
  Pod& pod = start({api_key_source()});
  auto t = world.tenant(1000);
  t.allowed_namespaces = {"elsewhere"};
  world.op.put(t);
  EXPECT_EQ(world.outcome(pod), "403 TenantNotAllowed");
  t.allowed_namespaces = {"elsewhere", "*"};
  world.op.put(t);
  EXPECT_TRUE(world.until([&] { return world.outcome(pod) == "admitted"; }));
}

TEST_F(Identity, SuspensionHoldsFromItsNoticeOnAndEndsWithIt) {
  Pod& pod = start({api_key_source()});
  EXPECT_EQ(world.outcome(pod), "admitted");
  auto t = world.tenant(1000);
  t.suspended = true;
  t.suspend_reason = "unpaid \"invoice\" \\ über";
  world.op.put(t);
  ASSERT_TRUE(world.until([&] { return world.outcome(pod) != "admitted"; }));
  Call& call = world.ask(pod);
  EXPECT_EQ(call.denial.status, 403);
  EXPECT_EQ(call.reason(), "Suspended");
  EXPECT_EQ(call.body()["detail"], t.suspend_reason);
  t.suspended = false;
  world.op.put(t);
  EXPECT_TRUE(world.until([&] { return world.outcome(pod) == "admitted"; }));
}

TEST_F(Identity, ARevokedKeyIsRefusedAndAGivenOneWorks) {
  Pod& pod = start({api_key_source()});
  const Ask late{"/", {{"X-Api-Key", "late"}}};
  EXPECT_EQ(world.outcome(pod), "admitted");
  EXPECT_EQ(world.outcome(pod, late), "401 InvalidCredential");
  world.op.remove_identity("apikey", kKey);
  world.op.put_identity("apikey", "late", kTenant);
  EXPECT_TRUE(world.until([&] { return world.outcome(pod) == "401 InvalidCredential"; }));
  EXPECT_TRUE(world.until([&] { return world.outcome(pod, late) == "admitted"; }));
}

TEST_F(Identity, Routes) {
  auto& routes = world.policy.routes;
  routes.push_back(route("exact", "/exact", {charge("api_calls")}));
  routes[0].matches[0].path_match = tenant::PathMatch::kExact;
  routes[0].action = tenant::RouteAction::kDeny;
  routes.push_back(route("chat", "/v1/chat", {charge("api_calls")}));
  routes[1].action = tenant::RouteAction::kDeny;
  routes[1].matches[0].methods = {"POST", "PUT"};
  routes.push_back(route("health", "/health/", {}));
  routes[2].action = tenant::RouteAction::kExempt;
  routes.push_back(route("chat-any", "/v1/chat", {charge("api_calls")}));
  routes[3].entitlement = "chat";
  routes.push_back(route("tokens", "/tokens", {charge("api_calls")}));
  routes[4].charges[0].unsupported_source = "ResponseJSON";
  routes.push_back(route("other-meter", "/other", {charge("unknown_meter")}));
  Pod& pod = start({api_key_source()});
  const struct {
    const char *method, *path, *wanted;
  } cases[] = {
      {"GET", "/exact", "403 RouteDenied"},
      {"GET", "/exact/", "400 MalformedPath"},
      {"GET", "/exactly", "admitted"},
      {"GET", "/EXACT", "400 MalformedPath"},
      {"GET", "/x/AbC", "admitted"},
      {"POST", "/v1/chat", "403 RouteDenied"},
      {"PUT", "/v1/chat/x", "403 RouteDenied"},
      {"POST", "/v1/chatter", "admitted"},
      {"GET", "/v1/chat", "403 NotEntitled"},
      {"GET", "/v1/chat/x", "403 NotEntitled"},
      {"GET", "/health/x", "admitted"},
      {"GET", "/tokens", "503 UnsupportedCharge"},
      {"GET", "/other", "403 NotEntitled"},
      {"OPTIONS", "*", "admitted"},
      {"POST", "/v1/%63hat", "400 MalformedPath"},
      {"POST", "/v1//chat", "400 MalformedPath"},
      {"POST", "//v1/chat", "400 MalformedPath"},
      {"POST", "/x/../v1/chat", "400 MalformedPath"},
      {"GET", "/v1/chat/../../health/", "400 MalformedPath"},
      {"POST", "/../v1/chat", "400 MalformedPath"},
      {"GET", "/%", "400 MalformedPath"},
      {"POST", "/v1/chat/a%2Fb", "403 RouteDenied"},
      {"GET", "/v1/chat/a%2Fb", "403 NotEntitled"},
      {"GET", "/keys/a%2Fb", "admitted"},
      {"HEAD", "/v1/chat", "403 NotEntitled"},
  };
  for (const auto& c : cases) EXPECT_EQ(world.outcome(pod, {c.path, Ask{}.headers, c.method}), c.wanted) << c.path;
  EXPECT_EQ(world.outcome(pod, {"/health/x", {}}), "admitted") << "nobody need say who they are on an exempt route";
  EXPECT_EQ(world.outcome(pod, {"/v1/chat/%2e%2e/%2e%2e/health/", {}}), "400 MalformedPath")
      << "the path is judged before that";
}

TEST_F(Identity, ThePathThatIsForwardedIsTheOneThatWasMatched) {
  world.policy.routes = {route("health", "/health", {})};
  world.policy.routes[0].action = tenant::RouteAction::kExempt;
  world.policy.paths.ambiguous = tenant::AmbiguousPath::kNormalise;
  Pod& pod = start({api_key_source()});
  const Call& call = pod.begin({"/v1/%2e%2e/health/%7e", {}});
  EXPECT_TRUE(call.admitted());
  EXPECT_EQ(call.state.forward_path, "/health/~");
  const Call& plain = pod.begin({"/health/x", {}});
  EXPECT_TRUE(plain.admitted());
  EXPECT_EQ(plain.state.forward_path.data(), nullptr) << "as it came";
  EXPECT_EQ(world.outcome(pod, {"/v1%2f..%2fhealth", {}}), "400 MalformedPath");
}

TEST_F(Identity, ShadowDeniesNothingAtAll) {
  world.policy.enforcement = tenant::Enforcement::kShadow;
  world.policy.routes = {route("closed", "/closed", {})};
  world.policy.routes[0].action = tenant::RouteAction::kDeny;
  Pod& pod = start({api_key_source()});
  EXPECT_EQ(world.outcome(pod, {"/closed"}), "admitted");
  EXPECT_EQ(world.outcome(pod, {"/x/../closed"}), "admitted");
  EXPECT_EQ(world.outcome(pod, {"/", {}}), "admitted");
  EXPECT_EQ(world.outcome(pod, {"/", {{"X-Api-Key", "nobody's"}}}), "admitted");
  world.op.fund(kTenant, world.bucket(), 1000);
  EXPECT_EQ(world.admitted_of(pod, 1100), 1100) << "beyond the quota as well";
}

}  // namespace
}  // namespace tallygate::testing
