#include "core/config/parsers.h"

#include <gtest/gtest.h>

namespace tallygate::config {
namespace {

TEST(Parsers, DurationsAddTheirParts) {
  const std::pair<const char*, int64_t> cases[] = {
      {"0", 0},          {"0s", 0},           {"250ms", 250},      {"5s", 5'000},
      {"1m30s", 90'000}, {"24h", 86'400'000}, {"7d", 604'800'000}, {"1s500ms", 1'500},
      {"90s", 90'000}};
  for (const auto& [text, ms] : cases) {
    const auto parsed = duration_ms()(text);
    ASSERT_TRUE(parsed) << text << ": " << parsed.error().problem;
    EXPECT_EQ(*parsed, ms) << text;
  }
}

TEST(Parsers, DurationsRefuseWhatIsAmbiguousOrTooLong) {
  for (const char* text : {"", "5", "s", "-5s", "5 s", "5sec", "1s1m", "1s1s", "1.5s", "99999999999999999999s",
                           "9223372036854775807d", "5s ", "1h2"}) {
    EXPECT_FALSE(duration_ms()(text)) << text;
  }
  EXPECT_EQ(duration_ms(1'000, 90'000)("2m").error().fix, "write a duration from 1s to 1m30s");
}

TEST(Parsers, ListenAddressesKnowIpv6AndTheEmptyHost) {
  EXPECT_EQ(*listen_address()(":8080"), (ListenAddress{"", 8080}));
  EXPECT_EQ(*listen_address()("127.0.0.1:0"), (ListenAddress{"127.0.0.1", 0}));
  EXPECT_EQ(*listen_address()("[::1]:9090"), (ListenAddress{"::1", 9090}));
  EXPECT_EQ(to_string(*listen_address()("[::1]:9090")), "[::1]:9090");
  EXPECT_EQ(to_string(*listen_address()(":1")), ":1");
  EXPECT_EQ(*host_port()("redis.billing.svc:6379"), (ListenAddress{"redis.billing.svc", 6379}));
  for (const char* text : {"", "8080", "::1:80", "[::1]", "[::1:80", "[]:80", "[abc]:80", "host:", "host:x",
                           "host:65536", "host:-1", "ho st:80", "host:+80", "a/b:80"}) {
    EXPECT_FALSE(listen_address()(text)) << text;
  }
  EXPECT_FALSE(host_port()(":6379"));
  EXPECT_FALSE(host_port()("redis:0"));
}

TEST(Parsers, UrlsAreTakenApartAndShownWithoutCredentials) {
  const auto parser = url({"redis", "rediss", "unix", "postgresql", "https"});
  const auto redis = parser("REDISS://app:p%40ss@[fd00::1]:6380/2?timeout=5");
  ASSERT_TRUE(redis) << redis.error().problem;
  EXPECT_EQ(redis->scheme, "rediss");
  EXPECT_EQ(redis->user, "app");
  EXPECT_EQ(redis->password, "p@ss");
  EXPECT_EQ(redis->host, "fd00::1");
  EXPECT_EQ(redis->port, 6380);
  EXPECT_EQ(redis->path, "/2");
  EXPECT_EQ(redis->query, "timeout=5");
  EXPECT_EQ(redis->redacted(), "rediss://[fd00::1]:6380/2");

  EXPECT_EQ(parser("unix:///run/redis.sock")->path, "/run/redis.sock");
  EXPECT_EQ(parser("postgresql:///db?host=/run/postgresql")->query, "host=/run/postgresql");
  EXPECT_EQ(parser("postgresql://a:1,b:2/db")->host, "a:1,b:2");
  EXPECT_EQ(parser("https://example.com")->path, "");
  for (const char* text :
       {"", "redis", "http://x", "redis://", "redis://:6379", "redis://h:", "redis://h:0", "redis://h:99999",
        "redis://h:x", "redis://u:%zz@h", "redis://u%0@h", "redis://[::1", "redis://[::1]x", "unix://run/x", "unix:///",
        "redis://h/#x", "redis://h /", "redis://h\n"}) {
    EXPECT_FALSE(parser(text)) << text;
  }
}

TEST(Parsers, UrlsKnowWhenTheyHoldAPassword) {
  const auto holds = url({"redis"}).holds_secret;
  EXPECT_TRUE(holds("redis://u:p@h"));
  EXPECT_TRUE(holds("redis://:p/w@h"));
  EXPECT_TRUE(holds("u:p@h"));
  EXPECT_TRUE(holds("postgresql://h/db?Password=x"));
  EXPECT_FALSE(holds("redis://h:6379/0"));
  EXPECT_FALSE(holds("redis://u@h"));
}

TEST(Parsers, ObjectNamesAreKubernetesNames) {
  EXPECT_EQ(*object_name()("billing/tallygate.tls"), (ObjectName{"billing", "tallygate.tls"}));
  for (const char* text : {"", "x", "/x", "x/", "A/x", "a.b/x", "a/x_y", "-a/x", "a/x-", "a/.x", "a/x..y", "a/b/c"}) {
    EXPECT_FALSE(object_name()(text)) << text;
  }
}

TEST(Parsers, CompoundValuesKeepWhatFollowsTheFirstColon) {
  const auto parser = tagged({{"dir", "PATH"}, {"kubernetes", ""}});
  EXPECT_EQ(parser.placeholder, "dir:PATH|kubernetes");
  EXPECT_EQ(*parser("dir:/etc/a:b"), (Tagged{"dir", "/etc/a:b"}));
  EXPECT_EQ(*parser("kubernetes"), (Tagged{"kubernetes", ""}));
  for (const char* text : {"", "dir", "dir:", "kubernetes:x", "other:x"}) EXPECT_FALSE(parser(text)) << text;
  const auto optional = tagged({{"kubernetes", "[FILE]"}});
  EXPECT_EQ(optional.placeholder, "kubernetes[:FILE]");
  EXPECT_EQ(*optional("kubernetes"), (Tagged{"kubernetes", ""}));
  EXPECT_EQ(*optional("kubernetes:/a:b"), (Tagged{"kubernetes", "/a:b"}));
  EXPECT_FALSE(optional("kubernetes:"));
}

TEST(Parsers, SizesNumbersChoicesAndLists) {
  EXPECT_EQ(*byte_size(0, 1 << 30)("64KiB"), 65536);
  EXPECT_EQ(*byte_size(0, 1 << 30)("1GiB"), 1 << 30);
  for (const char* text : {"", "KiB", "64kb", "2GiB", "99999999999999999999"})
    EXPECT_FALSE(byte_size(0, 1 << 30)(text)) << text;
  EXPECT_EQ(*integer(-5, 5)("-5"), -5);
  for (const char* text : {"", "-", "+1", "0x1", "1e3", "6", "-6", "9223372036854775808", " 1"})
    EXPECT_FALSE(integer(-5, 5)(text)) << text;
  EXPECT_EQ(*integer_as<uint16_t>(1, 9)("7"), 7);
  EXPECT_EQ(*one_of<int>({{"json", 1}, {"text", 2}})("text"), 2);
  EXPECT_EQ(*list_of(integer(0, 9))("1, 2,3"), (std::vector<int64_t>{1, 2, 3}));
  EXPECT_FALSE(list_of(integer(0, 9))("1,,3"));
  const auto several = list_of(integer(0, 9))("10,2,x");
  ASSERT_FALSE(several);
  EXPECT_NE(several.error().problem.find("10"), std::string::npos) << "each item that is wrong is told";
  EXPECT_NE(several.error().problem.find("\"x\""), std::string::npos) << several.error().problem;
}

TEST(Parsers, PathsAreCheckedWhenTheyMustExist) {
  EXPECT_TRUE(directory(Must::kExist)("/"));
  EXPECT_FALSE(directory(Must::kExist)("/dev/null"));
  EXPECT_FALSE(directory(Must::kExist)("/nonexistent"));
  EXPECT_FALSE(file(Must::kExist)("/"));
  EXPECT_TRUE(file()("/nonexistent"));
  EXPECT_FALSE(file()(""));
}

TEST(Parsers, NearestFindsTyposAndAbbreviations) {
  const std::vector<std::string> names = {"listen", "redis-url", "log-level", "log-format"};
  EXPECT_EQ(nearest("lisetn", names), "listen");
  EXPECT_EQ(nearest("redis-ulr", names), "redis-url");
  EXPECT_EQ(nearest("redis", names), "redis-url");
  EXPECT_EQ(nearest("postgres", names), "");
  EXPECT_EQ(nearest("", names), "");
}

}  // namespace
}  // namespace tallygate::config
