#include "tests/unit/core_http/certificates.h"
#include "tests/unit/http_client/support.h"

namespace tallygate {
namespace {

class Tls : public HttpClientTest {
 protected:
  void SetUp() override {
    http::ServerOptions options;
    options.host = "127.0.0.1";
    options.tls = {files_.certificate_file(), files_.key_file()};
    http::Router router;
    router.add("GET", "/", [](const http::Request& r) { return http::text_response(200, r.tls ? "secure" : "plain"); });
    server_ = std::move(*http::Server::start(options, std::move(router), system_env()));
  }
  Result<HttpResponse> get(HttpClientOptions options, const std::string& host) {
    return make(std::move(options))
        ->send({.url = "https://" + host + ":" + std::to_string(server_->port()) + "/", .timeout_ms = 5'000});
  }
  http::TestCertificates files_{testing::TempDir()};
  std::unique_ptr<http::Server> server_;
};
TALLYGATE_FOR_EACH_CLIENT(Tls);

TEST_P(Tls, TrustsTheGivenAuthority) {
  const auto response = get({.ca_file = files_.ca_file()}, "localhost");
  ASSERT_TRUE(response) << response.error().message;
  EXPECT_EQ(response->body, "secure");
}

TEST_P(Tls, RefusesAnotherAuthorityTheSystemsAndNone) {
  const http::TestCertificates other(testing::TempDir());
  for (const std::string& ca :
       {other.ca_file(), std::string(), std::string("/nonexistent"), std::string("/dev/null")}) {
    const auto response = get({.ca_file = ca}, "localhost");
    ASSERT_FALSE(response) << ca;
    EXPECT_EQ(response.error().errc, Errc::kUnavailable) << ca << response.error().message;
  }
  EXPECT_EQ(server_->stats().requests_total, 0u);
}

TEST_P(Tls, RefusesACertificateForAnotherName) {
  const auto response = get({.ca_file = files_.ca_file()}, "127.0.0.2");
  ASSERT_FALSE(response);
  const auto by_name = get({.ca_file = files_.ca_file()}, "ip6-localhost");
  ASSERT_FALSE(by_name);
  EXPECT_EQ(server_->stats().requests_total, 0u);
}

TEST_P(Tls, APeerThatSpeaksPlainHttpIsRefused) {
  ScriptedServer plain([](ScriptedServer::Peer&) {});
  std::string url = plain.url();
  url.replace(0, 4, "https");
  const auto response = make()->send({.url = url, .timeout_ms = 1'000});
  ASSERT_FALSE(response);
}

}  // namespace
}  // namespace tallygate
