// TLS with certificates of a self-made authority.
#include <filesystem>

#include "tests/integration/redis/scratch_redis.h"

namespace tallygate::testing {
namespace {

using redis::Client;

int openssl(const std::vector<std::string>& words) {
  std::vector<std::string> argv{"/usr/bin/openssl"};
  argv.insert(argv.end(), words.begin(), words.end());
  ChildProcess process;
  process.start(argv, {.as_user = "", .output_file = "/dev/null"});
  return process.wait();
}

class Tls : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = make_temporary_folder();
    const auto authority = [&](const std::string& name) {
      return openssl({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
                      "2", "-subj", "/CN=" + name, "-keyout", folder_ + "/" + name + ".key", "-out",
                      folder_ + "/" + name + ".crt"});
    };
    if (!std::filesystem::exists("/usr/bin/openssl") || authority("ca") != 0 || authority("other") != 0) {
      GTEST_SKIP() << "openssl is not there";
    }
    ASSERT_EQ(openssl({"req",
                       "-x509",
                       "-newkey",
                       "ec",
                       "-pkeyopt",
                       "ec_paramgen_curve:prime256v1",
                       "-nodes",
                       "-days",
                       "2",
                       "-CA",
                       folder_ + "/ca.crt",
                       "-CAkey",
                       folder_ + "/ca.key",
                       "-subj",
                       "/CN=redis",
                       "-addext",
                       "subjectAltName=DNS:localhost,IP:127.0.0.1",
                       "-addext",
                       "basicConstraints=critical,CA:FALSE",
                       "-keyout",
                       folder_ + "/server.key",
                       "-out",
                       folder_ + "/server.crt"}),
              0);
    port_ = free_port();
    server_ = std::make_unique<ScratchRedis>(std::vector<std::string>{
        "--tls-port", std::to_string(port_), "--tls-cert-file", folder_ + "/server.crt", "--tls-key-file",
        folder_ + "/server.key", "--tls-ca-cert-file", folder_ + "/ca.crt", "--tls-auth-clients", "no"});
  }
  void TearDown() override {
    server_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  redis::Endpoint endpoint(const std::string& host, const std::string& authority) const {
    redis::Endpoint e;
    e.tls = true;
    e.host = host;
    e.port = port_;
    if (!authority.empty()) e.ca_file = folder_ + "/" + authority + ".crt";
    return e;
  }
  std::string why(const redis::Endpoint& e) {
    redis::ConnectionOptions options;
    options.connect_timeout_ms = 300;
    Client client(system_env(), e, options);
    const auto reply = client.call({"PING"});
    return reply ? reply->text : reply.error().message;
  }

  std::string folder_;
  int port_ = 0;
  std::unique_ptr<ScratchRedis> server_;
};

TEST_F(Tls, AgreesWithTheRightAuthorityOnly) {
  EXPECT_EQ(why(endpoint("127.0.0.1", "ca")), "PONG");
  EXPECT_EQ(why(endpoint("localhost", "ca")), "PONG");
  EXPECT_NE(why(endpoint("127.0.0.1", "other")).find("certificate verify failed"), std::string::npos);
  EXPECT_NE(why(endpoint("127.0.0.1", "")).find("certificate verify failed"), std::string::npos)
      << "not of the system's";
  EXPECT_NE(why(endpoint("127.0.0.2", "ca")), "PONG") << "not a name of the certificate";
  EXPECT_NE(why(endpoint("127.0.0.1", "no-such")).find("authorities"), std::string::npos);
}

TEST_F(Tls, APlainServerIsNoTlsServer) {
  auto plain = server_->endpoint();
  plain.tls = true;
  plain.ca_file = folder_ + "/ca.crt";
  EXPECT_NE(why(plain), "PONG");
  auto wrong = endpoint("127.0.0.1", "ca");
  wrong.tls = false;
  EXPECT_NE(why(wrong), "PONG");
}

TEST_F(Tls, CarriesMuchInBothDirectionsAndReconnects) {
  redis::ConnectionOptions options;
  options.call_timeout_ms = 10'000;
  Client client(system_env(), endpoint("127.0.0.1", "ca"), options);
  const std::string value(6 << 20, 'y');
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(client.call({"SET", "big", value}).has_value());
    const auto back = client.call({"GET", "big"});
    ASSERT_TRUE(back.has_value()) << back.error().message;
    EXPECT_TRUE(back->text == value);
    std::vector<redis::Command> commands;
    for (int i = 0; i < 5000; ++i) commands.push_back({"ECHO", std::to_string(i)});
    const auto replies = client.pipeline(commands);
    for (size_t i = 0; i < replies.size(); ++i) ASSERT_EQ(replies[i]->text, std::to_string(i));
    server_->kill();
    server_->start();
  }
}

}  // namespace
}  // namespace tallygate::testing
