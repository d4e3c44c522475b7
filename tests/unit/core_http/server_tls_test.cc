#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include "core/http/server.h"
#include "tests/unit/core_http/certificates.h"
#include "tests/unit/core_http/raw_client.h"

namespace tallygate::http {
namespace {

// A blocking TLS client that trusts one authority.
class TlsClient {
 public:
  TlsClient(uint16_t port, const std::string& ca_file) : context_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX_load_verify_file(context_, ca_file.c_str());
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
    bio_ = BIO_new_ssl_connect(context_);
    BIO_set_conn_hostname(bio_, ("127.0.0.1:" + std::to_string(port)).c_str());
    connected_ = BIO_do_connect(bio_) == 1 && BIO_do_handshake(bio_) == 1;
  }
  ~TlsClient() {
    BIO_free_all(bio_);
    SSL_CTX_free(context_);
  }
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;
  bool connected() const { return connected_; }
  std::string exchange(const std::string& bytes) {
    BIO_write(bio_, bytes.data(), static_cast<int>(bytes.size()));
    std::string all;
    char piece[4096];
    for (int n = 0; (n = BIO_read(bio_, piece, sizeof piece)) > 0;) all.append(piece, static_cast<size_t>(n));
    return all;
  }

 private:
  SSL_CTX* context_;
  BIO* bio_ = nullptr;
  bool connected_ = false;
};

Router router() {
  Router router;
  router.add("GET", "/tls",
             [](const Request& r) { return text_response(200, r.tls ? std::string(100'000, 's') : "plain"); });
  return router;
}

constexpr const char* kGet = "GET /tls HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

TEST(ServerTls, ServesOverTlsAndTakesNewCertificates) {
  TestCertificates first(testing::TempDir()), second(testing::TempDir());
  ServerOptions options;
  options.host = "127.0.0.1";
  options.tls = {first.certificate_file(), first.key_file()};
  auto server = Server::start(options, router(), system_env());
  ASSERT_TRUE(server) << server.error().message;
  {
    TlsClient client((*server)->port(), first.ca_file());
    ASSERT_TRUE(client.connected());
    const std::string answer = client.exchange(kGet);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n"));
    EXPECT_TRUE(answer.ends_with(std::string(100'000, 's')));
  }
  EXPECT_FALSE(TlsClient((*server)->port(), second.ca_file()).connected());
  ASSERT_EQ(std::rename(second.certificate_file().c_str(), first.certificate_file().c_str()), 0);
  EXPECT_FALSE((*server)->reload_tls()) << "the key does not belong to it";
  EXPECT_TRUE(TlsClient((*server)->port(), first.ca_file()).connected()) << "the old one stays";
  ASSERT_EQ(std::rename(second.key_file().c_str(), first.key_file().c_str()), 0);
  EXPECT_TRUE((*server)->reload_tls());
  EXPECT_TRUE(TlsClient((*server)->port(), second.ca_file()).connected());
  (*server)->drain(2'000);
}

TEST(ServerTls, PlainTextAndBrokenFilesAreRefused) {
  TestCertificates files(testing::TempDir());
  ServerOptions options;
  options.host = "127.0.0.1";
  options.tls = {files.certificate_file(), files.key_file()};
  auto server = Server::start(options, router(), system_env());
  ASSERT_TRUE(server);
  EXPECT_EQ(RawClient((*server)->port()).exchange(kGet).find("HTTP/1.1 200"), std::string::npos);
  options.tls.key_file = "/nonexistent";
  auto broken = Server::start(options, router(), system_env());
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().errc, Errc::kInvalid);
  EXPECT_NE(broken.error().message.find("/nonexistent"), std::string::npos);
}

}  // namespace
}  // namespace tallygate::http
