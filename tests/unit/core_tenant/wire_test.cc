#include "core/tenant/wire.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/env.h"

namespace tallygate::tenant {
namespace {

using Json = nlohmann::json;

// Random values of the model, from a seed.
class Make {
 public:
  explicit Make(uint64_t seed) : rng_(seed) {}

  Tenant tenant() {
    Tenant t;
    t.id = TenantId::parse(word() + "/" + word()).value();
    t.version = number();
    t.display_name = text();
    t.plan = PlanName::parse(word() + "." + word()).value();
    t.enforcement = pick<Enforcement>(2);
    t.suspended = flag();
    t.suspend_reason = text();
    repeat([&] { t.allowed_namespaces.push_back(word()); });
    repeat([&] { t.meters.push_back({meter(), text(), pick<Settlement>(3)}); });
    repeat([&] { t.limits.push_back(limit()); });
    repeat([&] { t.entitlements.push_back(word()); });
    t.on_unavailable_quota = pick<OnUnavailable>(2);
    t.on_unavailable_wallet = pick<OnUnavailable>(2);
    t.allowance_per_pod = number();
    t.stale_after_ms = number();
    return t;
  }

  Policy policy() {
    Policy p;
    p.id = PolicyId::parse(word() + "/" + word()).value();
    p.version = number();
    p.enforcement = pick<Enforcement>(2);
    repeat([&] {
      IdentitySource& s = p.identity.emplace_back();
      s.type = pick<IdentityType>(3);
      s.header = word();
      repeat([&] { s.from_cidrs.push_back("10.0.0.0/8"); });
      s.forward = pick<Forward>(3);
    });
    p.paths = {pick<AmbiguousPath>(3), flag(), flag()};
    p.tenant_header = flag() ? word() : "";
    repeat([&] { p.cors.allow_origins.push_back("https://" + word()); });
    p.cors.allow_credentials = flag();
    p.streaming = {pick<OnExhausted>(3), pick<OnAbort>(3)};
    p.request_bodies = {number(), flag()};
    repeat([&] { p.routes.push_back(route()); });
    p.default_route = route();
    return p;
  }

 private:
  template <class E>
  E pick(uint64_t count) {
    return static_cast<E>(rng_.random_below(count));
  }
  bool flag() { return rng_.random_below(2) == 1; }
  int64_t number() {
    return static_cast<int64_t>(rng_.random_below(uint64_t{kMaxInteger} + 1) >> rng_.random_below(53));
  }
  std::string word() { return "n" + rng_.random_hex(1 + rng_.random_below(8)); }
  MeterName meter() { return MeterName::parse(word()).value(); }
  template <class Fn>
  void repeat(Fn fn) {
    for (uint64_t n = rng_.random_below(4); n > 0; --n) fn();
  }
  std::string text() {
    static const char* const kTexts[] = {"",          "plain", "quote \" and \\", "Zürich €", "line\nbreak",
                                         "</script>", "\x01"};
    return kTexts[rng_.random_below(7)];
  }
  Charge charge() {
    Charge c;
    c.meter = meter();
    c.units = number();
    c.unsupported_source = flag() ? "" : "aggregation Last";
    c.from = pick<AmountFrom>(9);
    if (c.from == AmountFrom::kFixed) return c;
    if (flag()) c.pointer = "/" + text();
    if (flag()) c.header = word();
    if (c.from == AmountFrom::kTokens) {
      if (flag()) c.tokens.api = word();
      for (auto& weight : c.tokens.weights) weight = flag() ? number() : 0;
    }
    c.estimate = {flag() ? "/" + text() : "", number(), number(), flag() ? number() : 0};
    return c;
  }
  Limit limit() {
    Limit l;
    l.name = LimitName::parse(word()).value();
    l.meter = meter();
    l.amount = number();
    l.capacity = flag() ? kUnbounded : number();
    l.cap = pick<Cap>(2);
    l.window = pick<WindowKind>(8);
    l.burst = number();
    l.grace_duration_s = number();
    int64_t at = 1'700'000'000;
    repeat([&] { l.boundaries_s.push_back(at += 1 + static_cast<int64_t>(rng_.random_below(100'000))); });
    return l;
  }
  Route route() {
    Route r;
    r.name = LimitName::parse(word()).value();
    r.action = pick<RouteAction>(3);
    repeat([&] {
      RouteMatch& m = r.matches.emplace_back();
      repeat([&] { m.methods.push_back("POST"); });
      m.path_match = pick<PathMatch>(2);
      m.path = "/" + word();
    });
    repeat([&] { r.charges.push_back(charge()); });
    r.gate = text();
    r.entitlement = text();
    r.charge_on_success = flag();
    if (flag()) r.on_unavailable = pick<OnUnavailable>(2);
    return r;
  }

  ManualEnv rng_;
};

TEST(Wire, TenantsRoundTrip) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    const Tenant tenant = Make(seed).tenant();
    const auto back = tenant_from_json(to_json(tenant));
    ASSERT_TRUE(back) << seed << ": " << back.error().message;
    EXPECT_EQ(*back, tenant) << seed;
    EXPECT_EQ(to_json(*back), to_json(tenant)) << seed;
  }
}

TEST(Wire, PoliciesRoundTrip) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    const Policy policy = Make(seed).policy();
    const auto back = policy_from_json(to_json(policy));
    ASSERT_TRUE(back) << seed << ": " << back.error().message;
    EXPECT_EQ(*back, policy) << seed;
  }
}

TEST(Wire, APolicyOfAnOlderOperatorHasTheDefaultsForPaths) {
  Policy policy = Make(9).policy();
  Json json = Json::parse(to_json(policy));
  json.erase("paths");
  policy.paths = {};
  const auto back = policy_from_json(json.dump());
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, policy);
}

// Adds an unknown member to every object of the document.
void add_unknown_members(Json& json) {
  for (auto& member : json) {
    if (member.is_structured()) add_unknown_members(member);
  }
  if (json.is_object()) json["fromTheFuture"] = Json{{"a", 1}};
}

TEST(Wire, UnknownMembersAreIgnored) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    const Policy policy = Make(seed).policy();
    Json json = Json::parse(to_json(policy));
    add_unknown_members(json);
    const auto back = policy_from_json(json.dump());
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(*back, policy);
  }
}

TEST(Wire, ANewerDocumentIsRefused) {
  Json json = Json::parse(to_json(Make(7).tenant()));
  json["v"] = 2;
  const auto back = tenant_from_json(json.dump());
  ASSERT_FALSE(back);
  EXPECT_EQ(back.error().errc, Errc::kInvalid);
  EXPECT_NE(back.error().message.find("v=2"), std::string::npos);
}

// Each member of each object: missing and of the wrong type must be an error that names it, never a default.
TEST(Wire, EveryMemberIsRequiredAndTyped) {
  const Json tenant = Json::parse(to_json(Make(3).tenant()));
  for (const auto& [key, value] : tenant.items()) {
    Json without = tenant;
    without.erase(key);
    const auto missing = tenant_from_json(without.dump());
    ASSERT_FALSE(missing) << key;
    EXPECT_NE(missing.error().message.find(key), std::string::npos) << missing.error().message;
    Json mistyped = tenant;
    mistyped[key] = 1.5;
    const auto wrong = tenant_from_json(mistyped.dump());
    ASSERT_FALSE(wrong) << key;
    EXPECT_NE(wrong.error().message.find(key), std::string::npos) << wrong.error().message;
  }
}

TEST(Wire, WhatIsNoDocumentIsRefused) {
  for (const char* text : {"", "null", "[]", "{", "{}", "1", "\"x\"", "{\"v\":1}", "{\"v\":\"1\"}", "\xff\xfe"}) {
    EXPECT_FALSE(tenant_from_json(text)) << text;
    EXPECT_FALSE(policy_from_json(text)) << text;
  }
  EXPECT_FALSE(tenant_from_json(std::string(200'000, '[')));
}

TEST(Wire, NumbersPastTheExactRangeAreRefused) {
  Json json = Json::parse(to_json(Make(3).tenant()));
  for (const char* bad : {"9007199254740992", "18446744073709551615", "-1", "1e3", "1.0", "99999999999999999999"}) {
    json["allowancePerPod"] = Json::parse(bad);
    EXPECT_FALSE(tenant_from_json(json.dump())) << bad;
  }
  json["allowancePerPod"] = kMaxInteger;
  EXPECT_TRUE(tenant_from_json(json.dump()));
}

TEST(Wire, AFaultNamesItsPath) {
  Policy policy = Make(5).policy();
  policy.routes.assign(2, policy.default_route);
  policy.routes[1].charges = {Charge{MeterName::parse("calls").value(), 1, ""}};
  Json json = Json::parse(to_json(policy));
  json["routes"][1]["charges"][0]["meter"] = "Not A Meter";
  const auto back = policy_from_json(json.dump());
  ASSERT_FALSE(back);
  EXPECT_NE(back.error().message.find("routes[1].charges[0].meter"), std::string::npos) << back.error().message;
}

TEST(Wire, BoundariesMustAscend) {
  Tenant tenant = Make(11).tenant();
  Limit& limit = tenant.limits.emplace_back();
  limit.name = LimitName::parse("a").value();
  limit.meter = MeterName::parse("m").value();
  limit.boundaries_s = {10, 20, 20};
  EXPECT_FALSE(tenant_from_json(to_json(tenant)));
}

}  // namespace
}  // namespace tallygate::tenant
