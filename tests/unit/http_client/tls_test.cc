#include <fstream>

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

std::string text_of(const std::string& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST_P(Tls, TakesAuthoritiesAsTextToo) {
  const http::TestCertificates other(testing::TempDir());
  const std::string both = text_of(other.ca_file()) + text_of(files_.ca_file());
  const auto response = get({.ca_pem = both}, "localhost");
  ASSERT_TRUE(response) << response.error().message;
  EXPECT_FALSE(get({.ca_file = files_.ca_file(), .ca_pem = text_of(other.ca_file())}, "localhost")) << "the text wins";
  EXPECT_FALSE(get({.ca_pem = "no certificate"}, "localhost"));
}

TEST_P(Tls, VerifiesTheNameThatItIsGiven) {
  HttpClientOptions options = {.ca_file = files_.ca_file(), .tls_server_name = "localhost"};
  const auto response = get(options, "127.0.0.1");
  ASSERT_TRUE(response) << response.error().message;
  EXPECT_EQ(response->body, "secure");
  options.tls_server_name = "elsewhere.example";
  EXPECT_EQ(get(options, "127.0.0.1").error().errc, Errc::kUnavailable);
  EXPECT_FALSE(get(options, "localhost")) << "the host does not count";
}

TEST(CheckTls, SaysWhatCannotBeUsed) {
  const http::TestCertificates files(testing::TempDir()), other(testing::TempDir());
  const std::string certificate = text_of(files.certificate_file()), key = text_of(files.key_file());
  EXPECT_TRUE(check_tls({}));
  EXPECT_TRUE(check_tls(
      {.ca_file = files.ca_file(), .certificate_file = files.certificate_file(), .key_file = files.key_file()}));
  EXPECT_TRUE(check_tls({.certificate_pem = certificate + text_of(files.ca_file()), .key_pem = key}));
  const std::pair<HttpClientOptions, std::string> bad[] = {
      {{.ca_file = "/nonexistent"}, "/nonexistent: cannot be read"},
      {{.ca_pem = "x"}, "the certificate authorities hold no certificate"},
      {{.certificate_pem = "x", .key_pem = key}, "the client certificate is not a certificate"},
      {{.certificate_pem = certificate, .key_pem = "x"}, "the client key is not an unencrypted private key"},
      {{.certificate_pem = certificate, .key_pem = text_of(other.key_file())}, "not that of the client certificate"},
  };
  for (const auto& [options, message] : bad) {
    const auto checked = check_tls(options);
    ASSERT_FALSE(checked) << message;
    EXPECT_EQ(checked.error().errc, Errc::kInvalid);
    EXPECT_NE(checked.error().message.find(message), std::string::npos) << checked.error().message;
  }
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
