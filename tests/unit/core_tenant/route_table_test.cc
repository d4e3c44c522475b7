#include "core/tenant/route_table.h"

#include <gtest/gtest.h>

namespace tallygate::tenant {
namespace {

Route route(const char* name, PathMatch kind, const char* path, std::vector<std::string> methods = {}) {
  Route r;
  r.name = LimitName::parse(name).value();
  r.matches.push_back({std::move(methods), kind, path});
  return r;
}

Policy shop() {
  Policy p;
  p.routes = {route("health", PathMatch::kExact, "/healthz"),        route("agents", PathMatch::kPrefix, "/v1/agents"),
              route("chat", PathMatch::kExact, "/v1/chat:complete"), route("me", PathMatch::kExact, "/users/@me"),
              route("admin", PathMatch::kPrefix, "/admin"),          route("cafe", PathMatch::kPrefix, "/caf%C3%A9 x")};
  return p;
}

// "health", "default", "400", and behind it " → /path" where another path goes on.
std::string outcome(const Policy& policy, std::string_view path, std::string_view method = "GET") {
  std::string room;
  const RouteTable::Found found = RouteTable(policy).find(method, path, &room);
  if (!found.fault.empty()) return "400";
  const std::string name = found.route == RouteTable::kDefaultRoute ? "default" : policy.routes[found.route].name.str();
  return found.forward.data() == nullptr ? name : name + " → " + std::string(found.forward);
}

TEST(RouteTable, PlainPathsByTheFirstThatMatches) {
  const Policy p = shop();
  const struct {
    const char *path, *outcome;
  } cases[] = {{"/healthz", "health"},
               {"/healthzx", "default"},
               {"/v1/agents", "agents"},
               {"/v1/agents/", "agents"},
               {"/v1/agents/x", "agents"},
               {"/v1/agentsx", "default"},
               {"/v1/chat:complete", "chat"},
               {"/users/@me", "me"},
               {"/users/@me/x", "default"},
               {"/", "default"},
               {"*", "default"},
               {"/v1/agents/AbC", "agents"},
               {"/objects/AbC", "default"},
               {"/HealthZx", "default"}};
  for (const auto& c : cases) EXPECT_EQ(outcome(p, c.path), c.outcome) << c.path;
}

TEST(RouteTable, APathThatIsReadInTwoWaysIsRefusedWhereTheRoutesDiffer) {
  const Policy p = shop();
  for (const char* path : {"/v1/agents/run/%2e%2e/%2e%2e/%2e%2e/healthz",
                           "/v1/agents/run/../../../healthz",
                           "/admin%2fx",
                           "/v1%2fagents/x",
                           "/v1\\agents\\x",
                           "/v1/agents/..;/..;/healthz",
                           "//healthz",
                           "/v1//agents",
                           "/v1/chat%3Acomplete",
                           "/users/%40me",
                           "/%61dmin",
                           "/x/..%2fadmin",
                           "/x/%252e%252e/admin",
                           "/healthz;x",
                           "/healthz%3Fx",
                           "/healthz/.",
                           "/healthz//",
                           "/healthz%0a",
                           "/healthz%00",
                           "/admin/../..",
                           "/%zz",
                           "/x%",
                           "/caf%C3%A9 x%2F..%2F..%2Fadmin",
                           "//x/healthz"}) {
    EXPECT_EQ(outcome(p, path), "400") << path;
  }
}

TEST(RouteTable, APathThatIsReadInSeveralWaysPassesWhereAllLeadToOneRoute) {
  const Policy p = shop();
  const struct {
    const char *path, *outcome;
  } cases[] = {{"/v1/agents/a%2Fb", "agents"}, {"/v1/agents/a;b=c/d", "agents"},  {"/v1/agents/x/../y", "agents"},
               {"/v1/agents//x", "agents"},    {"/objects/a%2Fb%3Fc", "default"}, {"/.well-known/x", "default"},
               {"/caf%C3%A9%20x/y", "cafe"},   {"/caf%c3%a9%20x", "cafe"},        {"/x%20y", "default"},
               {"/objects/100%25", "default"}, {"/v1/agents/%61", "agents"}};
  for (const auto& c : cases) EXPECT_EQ(outcome(p, c.path), c.outcome) << c.path;
}

// Express takes "/healthz/" for "/healthz", nginx does not.
TEST(RouteTable, ASlashAtTheEndIsRefusedWhereItDecides) {
  Policy p = shop();
  EXPECT_EQ(outcome(p, "/healthz/"), "400");
  EXPECT_EQ(outcome(p, "/x/"), "default");
  EXPECT_EQ(outcome(p, "/admin/"), "admin");
  p.routes.push_back(route("slash", PathMatch::kExact, "/list/"));
  EXPECT_EQ(outcome(p, "/list/"), "400");
  EXPECT_EQ(outcome(p, "/list"), "400");
  EXPECT_EQ(outcome(p, "/lis"), "default");
  p.routes.back().matches.push_back({{}, PathMatch::kExact, "/list"});
  EXPECT_EQ(outcome(p, "/list/"), "slash");
  EXPECT_EQ(outcome(p, "/list"), "slash");
}

// Express takes "/HealthZ" for "/healthz", Go does not.
TEST(RouteTable, TheCaseOfAPathIsRefusedWhereItDecides) {
  Policy p = shop();
  for (const AmbiguousPath ambiguous :
       {AmbiguousPath::kRefuseIfRoutesDiffer, AmbiguousPath::kRefuse, AmbiguousPath::kNormalise}) {
    p.paths.ambiguous = ambiguous;
    for (const char* path : {"/HEALTHZ", "/healthZ", "/HEALTHZ/", "/V1/agents/run", "/v1/Agents", "/Admin/x"})
      EXPECT_EQ(outcome(p, path), "400") << path;
    EXPECT_EQ(outcome(p, "/v1/agents/AbC"), "agents");
    EXPECT_EQ(outcome(p, "/AbC"), "default");
  }
  p.paths.ambiguous = AmbiguousPath::kRefuseIfRoutesDiffer;
  EXPECT_EQ(outcome(p, "/v1/agents/a%2FB"), "agents");
  EXPECT_EQ(outcome(p, "/x/../HEALTHZ"), "400");
  EXPECT_EQ(outcome(p, "/%41dmin"), "400");
  p.routes.push_back(route("mixed", PathMatch::kPrefix, "/Reports/All"));
  EXPECT_EQ(outcome(p, "/Reports/All/x"), "mixed");
  EXPECT_EQ(outcome(p, "/reports/all/x"), "400");
  EXPECT_EQ(outcome(p, "/objects/x"), "default");
  EXPECT_EQ(outcome(p, "/healthz"), "health");
}

TEST(RouteTable, RefusesAnyPathThatIsNotPlainOnRequest) {
  Policy p = shop();
  p.paths.ambiguous = AmbiguousPath::kRefuse;
  for (const char* path : {"/v1/agents/a%2Fb", "/x%20y", "/.well-known/x", "/v1/agents//x"})
    EXPECT_EQ(outcome(p, path), "400") << path;
  EXPECT_EQ(outcome(p, "/v1/agents/x"), "agents");
  EXPECT_EQ(outcome(p, "/healthz/"), "400");
}

TEST(RouteTable, ForwardsTheNormalFormOnRequest) {
  Policy p = shop();
  p.paths.ambiguous = AmbiguousPath::kNormalise;
  const struct {
    const char *path, *outcome;
  } cases[] = {{"/v1/agents/run/%2e%2e/%2e%2e/%2e%2e/healthz", "health → /healthz"},
               {"/v1/chat%3Acomplete", "chat → /v1/chat:complete"},
               {"/users/%40me", "me → /users/@me"},
               {"//healthz", "health → /healthz"},
               {"/v1/agents/a%2fb", "agents → /v1/agents/a%2Fb"},
               {"/caf%c3%a9%20x/y", "cafe → /caf%C3%A9%20x/y"},
               {"/v1/agents/x", "agents"},
               {"/admin%2fx", "400"},
               {"/x/..;/admin", "400"},
               {"/x\\admin", "default → /x\\admin"},
               {"/x\\..\\admin", "400"},
               {"/..", "400"},
               {"/%", "400"},
               {"/./healthz/", "400"}};
  for (const auto& c : cases) EXPECT_EQ(outcome(p, c.path), c.outcome) << c.path;
}

TEST(RouteTable, IgnoresCaseOnRequest) {
  Policy p = shop();
  p.paths.ignore_case = true;
  p.routes.push_back(route("mixed", PathMatch::kPrefix, "/Reports/All"));
  const struct {
    const char *path, *outcome;
  } cases[] = {{"/HEALTHZ", "health"},       {"/V1/Agents/X", "agents"}, {"/reports/all/x", "mixed"},
               {"/REPORTS/ALLX", "default"}, {"/ADMIN%2fx", "400"},      {"/Users/%40ME", "400"},
               {"/HealthZ/", "400"},         {"/CAF%C3%A9%20X", "cafe"}};
  for (const auto& c : cases) EXPECT_EQ(outcome(p, c.path), c.outcome) << c.path;
}

TEST(RouteTable, AMatchOfGetMeansHeadToo) {
  Policy p;
  p.routes = {route("read", PathMatch::kPrefix, "/", {"GET"}), route("any", PathMatch::kPrefix, "/")};
  EXPECT_EQ(outcome(p, "/x", "HEAD"), "read");
  EXPECT_EQ(outcome(p, "/x", "POST"), "any");
  p.routes[0].matches[0].methods = {"POST"};
  EXPECT_EQ(outcome(p, "/x", "HEAD"), "any");
}

}  // namespace
}  // namespace tallygate::tenant
