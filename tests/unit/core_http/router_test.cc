#include "core/http/router.h"

#include <gtest/gtest.h>

namespace tallygate::http {
namespace {

class RouterTest : public testing::Test {
 protected:
  RouterTest() {
    for (const char* pattern : {"/", "/v1/tenants", "/v1/tenants/{tenant}", "/v1/tenants/{tenant}/balance",
                                "/v1/tenants/new", "/ui/{file...}", "/v1/{a}/{b}/c"}) {
      router_.add("GET", pattern, [](const Request& r) {
        std::string text(r.route);
        for (const auto& [name, value] : r.params) text += " " + std::string(name) + "=" + value;
        return text_response(200, text);
      });
    }
    router_.add("POST", "/v1/tenants", [](const Request&) { return text_response(201, "made"); });
  }
  Response ask(const std::string& method, const std::string& path) {
    Request request;
    request.method = method;
    request.path = path;
    const auto endpoint = router_.find(request);
    return endpoint ? (*endpoint)->blocking(request) : endpoint.error();
  }
  Router router_;
};

TEST_F(RouterTest, LiteralsBeatParametersAndParametersBeatTheRest) {
  EXPECT_EQ(ask("GET", "/").body, "/");
  EXPECT_EQ(ask("GET", "/v1/tenants/new").body, "/v1/tenants/new");
  EXPECT_EQ(ask("GET", "/v1/tenants/acme").body, "/v1/tenants/{tenant} tenant=acme");
  EXPECT_EQ(ask("GET", "/v1/tenants/a%2Fb%20c/balance").body, "/v1/tenants/{tenant}/balance tenant=a/b c");
  EXPECT_EQ(ask("GET", "/v1/tenants/x/c").body, "/v1/{a}/{b}/c a=tenants b=x") << "falls back from the literal";
  EXPECT_EQ(ask("GET", "/ui/css/main.css").body, "/ui/{file...} file=css/main.css");
  EXPECT_EQ(ask("GET", "/ui/").body, "/ui/{file...} file=");
}

TEST_F(RouterTest, UnknownPathsMethodsAndBrokenPaths) {
  EXPECT_EQ(ask("GET", "/v1").status, 404);
  EXPECT_EQ(ask("GET", "/v1/tenants/").status, 404) << "a parameter is never empty";
  EXPECT_EQ(ask("GET", "*").status, 404);
  const Response refused = ask("DELETE", "/v1/tenants");
  EXPECT_EQ(refused.status, 405);
  EXPECT_EQ(refused.headers, (Headers{{"Allow", "GET, HEAD, POST"}}));
  for (const char* path : {"/v1/%zz", "/v1/../x", "/./x", "/%2e%2e/x", "/v1/%00"})
    EXPECT_EQ(ask("GET", path).status, 400) << path;
  EXPECT_EQ(ask("GET", "/" + std::string(100, '/')).status, 400);
}

TEST_F(RouterTest, HeadIsAnsweredByGet) { EXPECT_EQ(ask("HEAD", "/v1/tenants").status, 200); }

}  // namespace
}  // namespace tallygate::http
