#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "core/http/server.h"
#include "tests/unit/core_http/certificates.h"
#include "tests/unit/core_http/raw_client.h"
#include "tests/unit/core_http/tls_client.h"

namespace tallygate::http {
namespace {

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

std::unique_ptr<Server> tls_server(const TestCertificates& files, ServerOptions options = {}) {
  options.host = "127.0.0.1";
  options.request_ids = true;
  options.tls = {files.certificate_file(), files.key_file()};
  auto server = Server::start(std::move(options), router(), system_env());
  if (!server) throw std::runtime_error(server.error().message);
  return std::move(*server);
}

TEST(ServerTls, SpeaksTheTwoVersionsThatAreSoundAndHttp11ByAlpn) {
  TestCertificates files(testing::TempDir());
  const auto server = tls_server(files);
  for (const int old : {TLS1_VERSION, TLS1_1_VERSION}) {
    EXPECT_FALSE(TlsClient(server->port(), files.ca_file(), old).connected());
  }
  const TlsClient older(server->port(), files.ca_file(), TLS1_2_VERSION), newest(server->port(), files.ca_file());
  ASSERT_TRUE(older.connected());
  EXPECT_TRUE(older.cipher().starts_with("ECDHE-")) << older.cipher();
  ASSERT_TRUE(newest.connected());
  EXPECT_EQ(newest.version(), "TLSv1.3");
  EXPECT_EQ(newest.protocol(), "");
  const TlsClient both(server->port(), files.ca_file(), 0, "\x02h2\x08http/1.1");
  ASSERT_TRUE(both.connected());
  EXPECT_EQ(both.protocol(), "http/1.1");
  EXPECT_FALSE(TlsClient(server->port(), files.ca_file(), 0, "\x02h2").connected()) << "RFC 7301: an alert";
  while (server->stats().handshakes_failed_total < 3) system_env().sleep_ms(1);
}

TEST(ServerTls, SendsTheWholeChain) {
  TestCertificates files(testing::TempDir());
  std::ifstream authority(files.ca_file());
  std::ofstream(files.certificate_file(), std::ios::app) << authority.rdbuf();
  const auto server = tls_server(files);
  TlsClient client(server->port(), files.ca_file());
  ASSERT_TRUE(client.connected());
  EXPECT_EQ(client.chain_length(), 2);
}

TEST(ServerTls, PlainHttpIsToldSoInPlainHttp) {
  TestCertificates files(testing::TempDir());
  const auto server = tls_server(files);
  const std::string answer = RawClient(server->port()).exchange(kGet);
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 400 Bad Request\r\n")) << answer;
  EXPECT_NE(answer.find("TlsRequired"), std::string::npos);
  EXPECT_NE(answer.find("\r\nX-Request-Id: "), std::string::npos) << answer;
  EXPECT_NE(answer.find("Connection: close\r\n"), std::string::npos);
  EXPECT_NE(RawClient(server->port()).exchange("nonsense").find("TlsRequired"), std::string::npos);
  EXPECT_EQ(RawClient(server->port()).exchange(std::string("\x16\x03\x01\x00\x05hello", 10)).find("HTTP"),
            std::string::npos)
      << "a broken handshake gets an alert";
}

size_t open_descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

TEST(ServerTls, HandshakesThatNeverEndAreEndedAndLeaveNothing) {
  TestCertificates files(testing::TempDir());
  ServerOptions options;
  options.head_timeout_ms = 200;
  const auto server = tls_server(files, options);
  EXPECT_TRUE(TlsClient(server->port(), files.ca_file()).connected());  // what OpenSSL opens once is open now
  while (server->stats().connections_open > 0) system_env().sleep_ms(1);
  const size_t before = open_descriptors();
  const std::string hello = std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);  // the begin of a real one
  for (int i = 0; i < 50; ++i) {
    RawClient client(server->port());
    client.send(hello.substr(0, 1 + static_cast<size_t>(i) % hello.size()));
  }
  {
    std::vector<std::unique_ptr<RawClient>> silent;
    for (int i = 0; i < 20; ++i) silent.push_back(std::make_unique<RawClient>(server->port()));
    RawClient dribbles(server->port());
    const int64_t began_ms = system_env().mono_ms();
    for (size_t i = 0; dribbles.send(i < hello.size() ? hello.substr(i, 1) : std::string(1, 'x')); ++i) {
      system_env().sleep_ms(10);
      ASSERT_LT(system_env().mono_ms() - began_ms, 5'000) << "byte after byte stretches the handshake";
    }
    EXPECT_GE(system_env().mono_ms() - began_ms, 150);
    for (auto& client : silent) EXPECT_TRUE(client->at_end());
  }
  while (server->stats().connections_open > 0) system_env().sleep_ms(1);
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_EQ(server->stats().handshakes_failed_total, 71u);
}

TEST(ServerTls, BrokenFilesAreRefusedAndNobodyIsAskedForAPassphrase) {
  TestCertificates files(testing::TempDir());
  const auto refused = [&](const std::string& key_file) {
    ServerOptions options;
    options.host = "127.0.0.1";
    options.tls = {files.certificate_file(), key_file};
    const auto server = Server::start(options, router(), system_env());
    return server ? std::string() : to_string(server.error().errc) + std::string(": ") + server.error().message;
  };
  EXPECT_NE(refused("/nonexistent").find("/nonexistent"), std::string::npos);
  EXPECT_EQ(refused("/nonexistent").rfind(std::string(to_string(Errc::kInvalid)), 0), 0u);
  const std::string encrypted = testing::TempDir() + "tg_encrypted_key.pem";
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"), &EVP_PKEY_free);
  FILE* f = std::fopen(encrypted.c_str(), "we");
  PEM_write_PrivateKey(f, key.get(), EVP_aes_128_cbc(), reinterpret_cast<const unsigned char*>("secret"), 6, nullptr,
                       nullptr);
  std::fclose(f);
  EXPECT_NE(refused(encrypted), "");
  std::remove(encrypted.c_str());
}

}  // namespace
}  // namespace tallygate::http
