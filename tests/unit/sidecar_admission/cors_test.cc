#include "sidecar/admission/cors.h"

#include <gtest/gtest.h>

namespace tallygate::sidecar {
namespace {

std::string denial(const Cors& cors, std::string_view origin) {
  std::string headers;
  cors.append_denial(origin, &headers);
  const size_t expose = headers.find("Access-Control-Expose-Headers: RateLimit, ");
  if (expose != std::string::npos) headers.replace(expose, std::string::npos, "+");
  return headers;
}

TEST(Cors, AppendsWhatTheFetchStandardWants) {
  const std::string ours = "https://app.example.com", vary = "Vary: Origin\r\n",
                    allow = "Access-Control-Allow-Origin: ";
  const std::string credentials = "Access-Control-Allow-Credentials: true\r\n";
  const Cors off, any({{"*"}, false}), listed({{"https://a.example", ours}, false}), trusting({{ours}, true});
  const struct {
    const Cors& cors;
    std::string origin, wanted;
  } cases[] = {
      {off, ours, ""},
      {any, ours, allow + "*\r\n+"},
      {any, "null", allow + "*\r\n+"},
      {any, "", ""},
      {listed, ours, vary + allow + ours + "\r\n+"},
      {listed, "", vary},
      {listed, "null", vary},
      {listed, "https://app.example.com.evil.example", vary},
      {listed, "http://app.example.com", vary},
      {listed, "https://app.example.com:8443", vary},
      {listed, "HTTPS://app.example.com", vary},
      {trusting, ours, vary + allow + ours + "\r\n" + credentials + "+"},
      {trusting, "https://b.example", vary},
      {Cors({{"*"}, true}), ours, allow + "*\r\n+"},  // browsers would refuse credentials
  };
  for (const auto& c : cases) EXPECT_EQ(denial(c.cors, c.origin), c.wanted) << c.origin;
  EXPECT_EQ(off.expose_line(), "");
  EXPECT_TRUE(any.expose_line().ends_with("\r\n"));
}

TEST(Cors, KnowsAPreflight) {
  const Cors cors({{"https://a.example"}, false});
  const auto is = [&](std::string_view method, std::vector<proxy::Header> headers) {
    proxy::RequestView view;
    view.method = method;
    view.headers = headers;
    return cors.is_preflight(view);
  };
  const proxy::Header origin{"Origin", "https://a.example"}, asks{"Access-Control-Request-Method", "POST"};
  EXPECT_TRUE(is("OPTIONS", {origin, asks}));
  EXPECT_FALSE(is("POST", {origin, asks}));
  EXPECT_FALSE(is("OPTIONS", {origin}));
  EXPECT_FALSE(is("OPTIONS", {asks}));
  EXPECT_FALSE(is("OPTIONS", {{"Origin", "https://b.example"}, asks}));
  EXPECT_FALSE(is("OPTIONS", {origin, origin, asks}));
  EXPECT_FALSE(is("OPTIONS", {origin, asks, asks}));
  EXPECT_FALSE(is("OPTIONS", {origin, {"Access-Control-Request-Method", ""}}));
  EXPECT_FALSE(is("OPTIONS", {origin, {"Access-Control-Request-Method", "GET, POST"}}));
  proxy::RequestView view;
  const std::vector<proxy::Header> headers{origin, asks};
  view.method = "OPTIONS";
  view.headers = headers;
  EXPECT_TRUE(cors.is_preflight(view));
  EXPECT_EQ(Cors::asked_method(view), "POST");
  EXPECT_FALSE(Cors().is_preflight(view)) << "off";
}

TEST(Cors, ConsentsToWhatTheBrowserAsks) {
  const std::string vary = "Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n";
  const std::string allow = "Access-Control-Allow-Origin: ", ours = "https://a.example";
  const std::string credentials = "Access-Control-Allow-Credentials: true\r\n";
  const std::string put = "Access-Control-Allow-Methods: PUT\r\n", age = "Access-Control-Max-Age: 600\r\n";
  const proxy::NameSet withheld({"x-tenant-id"});
  const auto consent = [&](const Cors& cors, std::vector<proxy::Header> headers) {
    headers.push_back({"Origin", ours});
    headers.push_back({"Access-Control-Request-Method", "PUT"});
    proxy::RequestView view;
    view.method = "OPTIONS";
    view.headers = headers;
    std::string text;
    cors.append_consent(view, withheld, &text);
    return text;
  };
  const Cors any({{"*"}, false}), listed({{ours}, false}), trusting({{ours}, true});
  EXPECT_EQ(consent(any, {}), vary + allow + "*\r\n" + put + age);
  EXPECT_EQ(consent(listed, {}), vary + allow + ours + "\r\n" + put + age);
  EXPECT_EQ(consent(trusting, {}), vary + allow + ours + "\r\n" + credentials + put + age);
  const struct {
    const char* asked;
    bool allowed;
  } cases[] = {{"content-type", true},
               {"content-type,x-api-key", true},
               {"Content-Type, \tX-Api-Key", true},
               {"", false},
               {",", false},
               {"content-type,x-tenant-id", false},
               {"X_Tenant_Id", false},
               {"a b", false},
               {"a\"", false},
               {"caf\xc3\xa9", false}};
  for (const auto& c : cases) {
    const std::string line = "Access-Control-Allow-Headers: " + std::string(c.asked) + "\r\n";
    EXPECT_EQ(consent(listed, {{"Access-Control-Request-Headers", c.asked}}),
              vary + allow + ours + "\r\n" + put + (c.allowed ? line : "") + age)
        << c.asked;
  }
}

}  // namespace
}  // namespace tallygate::sidecar
