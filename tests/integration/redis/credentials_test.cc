// Passwords, ACL users, and URLs that carry them.
#include "tests/integration/redis/scratch_redis.h"

namespace tallygate::testing {
namespace {

using redis::Client;

redis::ConnectionOptions quick() {
  redis::ConnectionOptions options;
  options.connect_timeout_ms = 300;
  return options;
}

std::string why(const redis::Endpoint& endpoint) {
  Client client(system_env(), endpoint, quick());
  const auto reply = client.call({"ACL", "WHOAMI"});
  if (!reply) {
    EXPECT_EQ(reply.error().errc, Errc::kUnavailable);
    return reply.error().message;
  }
  return reply->text;
}

TEST(Credentials, RequirePass) {
  ScratchRedis server({"--requirepass", "s3cret @:/%"});
  auto endpoint = server.endpoint();
  EXPECT_NE(why(endpoint).find("NOAUTH"), std::string::npos);
  endpoint.password = "wrong";
  EXPECT_NE(why(endpoint).find("WRONGPASS"), std::string::npos);
  EXPECT_EQ(why(endpoint).find("wrong\""), std::string::npos);
  endpoint.password = "s3cret @:/%";
  EXPECT_EQ(why(endpoint), "default");
  const auto parsed =
      redis::parse_url("redis://:s3cret%20%40%3A%2f%25@127.0.0.1:" + std::to_string(server.port()) + "/2");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  EXPECT_EQ(why(*parsed), "default");
  EXPECT_EQ(parsed->display().find("s3cret"), std::string::npos);
  auto unix_endpoint = server.unix_endpoint();
  unix_endpoint.password = endpoint.password;
  EXPECT_EQ(why(unix_endpoint), "default");
}

TEST(Credentials, AclUsers) {
  ScratchRedis server;
  Client admin(system_env(), server.endpoint());
  admin.call({"ACL", "SETUSER", "sidecar", "on", ">pw", "+@all", "~*", "&*"}).value();
  admin.call({"ACL", "SETUSER", "open", "on", "nopass", "+@all", "~*"}).value();
  admin.call({"ACL", "SETUSER", "gone", "off", ">pw", "+@all", "~*"}).value();
  auto endpoint = server.endpoint();
  endpoint.user = "sidecar";
  endpoint.password = "pw";
  EXPECT_EQ(why(endpoint), "sidecar");
  endpoint.user = "gone";
  EXPECT_NE(why(endpoint).find("WRONGPASS"), std::string::npos);
  endpoint.user = "open";
  endpoint.password = "";
  EXPECT_EQ(why(endpoint), "open") << "a user without a password is not the default user";
  endpoint.user = "sidecar";
  EXPECT_NE(why(endpoint).find("WRONGPASS"), std::string::npos);
}

TEST(Credentials, WhatAUserMayNotSubscribeToIsSaid) {
  ScratchRedis server;
  Client admin(system_env(), server.endpoint());
  admin.call({"ACL", "SETUSER", "deaf", "on", ">pw", "+@all", "~*", "resetchannels"}).value();
  auto endpoint = server.endpoint();
  endpoint.user = "deaf";
  endpoint.password = "pw";
  EventLoop loop(system_env());
  redis::Connection connection(loop, endpoint);
  connection.subscribe({"tg:want"}, [](std::string, std::string) {});
  connection.start();
  const int64_t until_ms = system_env().mono_ms() + 5000;
  while (connection.last_error().find("NOPERM") == std::string::npos && system_env().mono_ms() < until_ms) {
    loop.run_once(10);
  }
  EXPECT_NE(connection.last_error().find("NOPERM"), std::string::npos) << connection.last_error();
}

TEST(Credentials, MalformedUrlsAreRefused) {
  for (const char* url : {"",
                          "redis:",
                          "redis://",
                          "http://h",
                          "redis://:6379",
                          "redis://h:0",
                          "redis://h:65536",
                          "redis://h:x",
                          "redis://h/x",
                          "redis://h/1/2",
                          "redis://h/-1",
                          "redis://[::1",
                          "redis://[::1]x",
                          "redis://[]:1",
                          "redis://u:%zz@h",
                          "redis://u:%4@h",
                          "redis://h?db=1",
                          "redis://h h",
                          "redis://h\n",
                          "unix://",
                          "unix://relative",
                          "unix:///s?x=1",
                          "unix:///s?db=",
                          "unix:///s?db=x"}) {
    EXPECT_FALSE(redis::parse_url(url).has_value()) << url;
  }
  const auto full = redis::parse_url("rediss://user:p%40ss@[::1]:7000/5");
  ASSERT_TRUE(full.has_value());
  EXPECT_TRUE(full->tls);
  EXPECT_EQ(full->host, "::1");
  EXPECT_EQ(full->port, 7000);
  EXPECT_EQ(full->user, "user");
  EXPECT_EQ(full->password, "p@ss");
  EXPECT_EQ(full->db, 5);
  EXPECT_EQ(full->display(), "rediss://[::1]:7000");
}

}  // namespace
}  // namespace tallygate::testing
