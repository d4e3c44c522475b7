// A Redis that asks its clients for certificates, as its own configuration does unless told otherwise.
#include <filesystem>

#include "tests/integration/redis/scratch_redis.h"

#include <gtest/gtest.h>

namespace tallygate::testing {
namespace {

class RedisWithClientCertificates : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists("/usr/bin/openssl")) GTEST_SKIP() << "openssl is not there";
    ASSERT_EQ(openssl({"-subj", "/CN=ca", "-keyout", file("ca.key"), "-out", file("ca.crt")}), 0);
    ASSERT_EQ(openssl({"-subj", "/CN=other", "-keyout", file("other.key"), "-out", file("other.crt")}), 0);
    issue("server", "ca");
    issue("client", "ca");
    issue("stranger", "other");
    port_ = free_port();
    server_ = std::make_unique<ScratchRedis>(
        std::vector<std::string>{"--tls-port", std::to_string(port_), "--tls-cert-file", file("server.crt"),
                                 "--tls-key-file", file("server.key"), "--tls-ca-cert-file", file("ca.crt")});
  }
  void TearDown() override {
    server_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  std::string file(const std::string& name) const { return folder_ + "/" + name; }
  static int openssl(const std::vector<std::string>& words) {
    std::vector<std::string> argv{
        "/usr/bin/openssl", "req",   "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes",           "-days", "2"};
    argv.insert(argv.end(), words.begin(), words.end());
    ChildProcess process;
    process.start(argv, {.as_user = "", .output_file = "/dev/null"});
    return process.wait();
  }
  void issue(const std::string& name, const std::string& authority) {
    ASSERT_EQ(openssl({"-CA", file(authority + ".crt"), "-CAkey", file(authority + ".key"), "-subj", "/CN=" + name,
                       "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE",
                       "-keyout", file(name + ".key"), "-out", file(name + ".crt")}),
              0);
  }
  redis::Endpoint endpoint(const std::string& certificate) const {
    redis::Endpoint e;
    e.tls = true;
    e.host = "127.0.0.1";
    e.port = port_;
    e.ca_file = file("ca.crt");
    if (certificate.empty()) return e;
    e.certificate_file = file(certificate + ".crt");
    e.key_file = file(certificate + ".key");
    return e;
  }
  static std::string ask(redis::Client& client) {
    const auto reply = client.call({"PING"});
    return reply ? reply->text : reply.error().message;
  }
  static std::string ask(const redis::Endpoint& e) {
    redis::ConnectionOptions options;
    options.connect_timeout_ms = 300;
    redis::Client client(system_env(), e, options);
    return ask(client);
  }

  std::string folder_ = make_temporary_folder();
  int port_ = 0;
  std::unique_ptr<ScratchRedis> server_;
};

TEST_F(RedisWithClientCertificates, TakesOursAndSaysWhatIsMissing) {
  EXPECT_EQ(ask(endpoint("client")), "PONG");
  // What the server says of these comes after the handshake, and may be lost with the connection (TLS 1.3).
  EXPECT_NE(ask(endpoint("")), "PONG");
  EXPECT_NE(ask(endpoint("stranger")), "PONG");
  auto mixed = endpoint("client");
  mixed.key_file = file("stranger.key");
  EXPECT_NE(ask(mixed).find("not that of " + mixed.certificate_file), std::string::npos) << ask(mixed);
  EXPECT_NE(ask(endpoint("absent")).find("cannot read the client's certificate"), std::string::npos);
}

TEST_F(RedisWithClientCertificates, FilesAreReadAgainForEachConnection) {
  for (const char* ending : {".crt", ".key"}) {
    std::filesystem::copy_file(file(std::string("stranger") + ending), file(std::string("ours") + ending));
  }
  redis::ConnectionOptions options;
  options.connect_timeout_ms = 300;
  redis::Client client(system_env(), endpoint("ours"), options);
  EXPECT_NE(ask(client), "PONG");
  for (const char* ending : {".crt", ".key"}) {
    std::filesystem::copy_file(file(std::string("client") + ending), file(std::string("ours") + ending),
                               std::filesystem::copy_options::overwrite_existing);
  }
  std::string said;
  for (int i = 0; i < 40 && said != "PONG"; ++i) said = ask(client);
  EXPECT_EQ(said, "PONG") << "the same client, its next connection";
}

}  // namespace
}  // namespace tallygate::testing
