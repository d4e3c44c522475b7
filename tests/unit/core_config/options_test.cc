#include "core/config/options.h"

#include "tests/unit/core_config/support.h"

namespace tallygate::config {
namespace {

std::string parse(Sample& sample, const std::vector<std::string>& args,
                  std::map<std::string, std::string> environment = {}) {
  OptionSet options;
  declare(options, sample);
  const MapEnvironment map(std::move(environment));
  return joined(options.parse(args, map.lookup()));
}

TEST(Options, DefaultsFillWhatNobodySets) {
  Sample s;
  ASSERT_EQ(parse(s, {"--redis-url=redis://cache:6379"}), "");
  EXPECT_EQ(s.listen, (ListenAddress{"", 8080}));
  EXPECT_EQ(s.drain_ms, 25'000);
  EXPECT_EQ(s.workers, 4);
  EXPECT_FALSE(s.shadow);
  EXPECT_EQ(s.roles, (std::vector<std::string>{"api", "controller"}));
  EXPECT_TRUE(s.sources.empty());
}

TEST(Options, FlagsTakeTheirValueBothWays) {
  Sample s;
  ASSERT_EQ(parse(s, {"--redis-url", "redis://cache", "--workers=7", "--shadow", "--source=dir:/etc/a,b", "--source",
                      "kubernetes", "--roles", "api", "--roles=pipeline,controller", "--drain", "1m30s"}),
            "");
  EXPECT_EQ(s.redis.host, "cache");
  EXPECT_EQ(s.workers, 7);
  EXPECT_TRUE(s.shadow);
  EXPECT_EQ(s.sources, (std::vector<Tagged>{{"dir", "/etc/a,b"}, {"kubernetes", ""}}));
  EXPECT_EQ(s.roles, (std::vector<std::string>{"api", "pipeline", "controller"}));
  EXPECT_EQ(s.drain_ms, 90'000);
  ASSERT_EQ(parse(s, {"--redis-url=redis://cache", "--no-shadow"}), "");
  EXPECT_FALSE(s.shadow);
  ASSERT_EQ(parse(s, {"--redis-url=redis://cache", "--shadow=yes"}), "");
  EXPECT_TRUE(s.shadow);
}

TEST(Options, FlagBeatsEnvironmentBeatsFileBeatsDefault) {
  const TemporaryFile file("workers: 11\ndrain: 1s\nlisten: ':1'\nredis:\n  url: redis://from-file\n");
  Sample s;
  ASSERT_EQ(parse(s, {"--config", file.path(), "--workers=13"},
                  {{"TALLYGATE_WORKERS", "12"}, {"TALLYGATE_DRAIN", "2s"}, {"TALLYGATE_LISTEN", ""}}),
            "");
  EXPECT_EQ(s.workers, 13);
  EXPECT_EQ(s.drain_ms, 2'000);
  EXPECT_EQ(s.listen.port, 1) << "an empty variable counts as not set";
  EXPECT_EQ(s.redis.host, "from-file");
  EXPECT_EQ(s.format, 1);
}

TEST(Options, TheFileMayComeFromTheEnvironmentAndHoldLists) {
  const TemporaryFile file(
      "roles: [api, pipeline]\nsource:\n  - dir:/a\n  - dir:/b\nredis-url: redis://x\nshadow: true\n");
  Sample s;
  ASSERT_EQ(parse(s, {}, {{"TALLYGATE_CONFIG", file.path()}}), "");
  EXPECT_EQ(s.roles, (std::vector<std::string>{"api", "pipeline"}));
  EXPECT_EQ(s.sources, (std::vector<Tagged>{{"dir", "/a"}, {"dir", "/b"}}));
  EXPECT_TRUE(s.shadow);
}

TEST(Options, SecretsComeFromTheEnvironmentOrAFileOfTheirOwn) {
  const TemporaryFile key("sk_live_from_file\n");
  const TemporaryFile address("redis://u:pw@cache\n");
  Sample s;
  ASSERT_EQ(parse(s, {"--redis-url=redis://cache"}, {{"STRIPE_API_KEY", "sk_live_1234"}}), "");
  EXPECT_EQ(s.key, "sk_live_1234");
  ASSERT_EQ(parse(s, {"--redis-url-file=" + address.path(), "--stripe-key-file", key.path()}), "");
  EXPECT_EQ(s.key, "sk_live_from_file");
  EXPECT_EQ(s.redis.password, "pw");
  EXPECT_EQ(s.redis_path, address.path());
  s.redis_path.clear();
  ASSERT_EQ(parse(s, {}, {{"REDIS_URL_FILE", address.path()}, {"STRIPE_API_KEY_FILE", key.path()}}), "");
  EXPECT_EQ(s.key, "sk_live_from_file");
  EXPECT_EQ(s.redis_path, address.path());
  s.redis_path.clear();
  ASSERT_EQ(parse(s, {}, {{"REDIS_URL", "redis://u:pw2@cache"}}), "");
  EXPECT_EQ(s.redis.password, "pw2");
  EXPECT_EQ(s.redis_path, "");
}

TEST(Options, HelpIsAlignedAndComplete) {
  OptionSet options;
  Sample s;
  declare(options, s);
  const std::string help = options.help();
  EXPECT_NE(help.find("  --listen ADDRESS              address for requests [default :8080; env TALLYGATE_LISTEN]\n"),
            std::string::npos)
      << help;
  EXPECT_NE(help.find("the quota cache [required; env REDIS_URL]"), std::string::npos) << help;
  EXPECT_NE(help.find("--redis-url-file FILE"), std::string::npos);
  EXPECT_NE(help.find("--[no-]shadow"), std::string::npos);
  EXPECT_NE(help.find("--stripe-key-file FILE"), std::string::npos);
  EXPECT_EQ(help.find("--stripe-key TEXT"), std::string::npos) << "a flag that would be refused is not offered";
  EXPECT_NE(help.find("--config FILE"), std::string::npos);
  EXPECT_NE(help.find("--help"), std::string::npos);
  for (size_t start = 0; start < help.size(); start = help.find('\n', start) + 1) {
    EXPECT_LE(help.find('\n', start) - start, 112u) << help.substr(start, 200);
  }
}

TEST(Options, ADefaultThatIsSecretIsNotShown) {
  OptionSet options;
  std::string value;
  options.add("token", &value, text()).secret().fallback("hunter2").help("token");
  EXPECT_EQ(options.help().find("hunter2"), std::string::npos);
}

TEST(Options, RulesBetweenFieldsRunLast) {
  OptionSet options;
  std::string certificate, key;
  options.add("tls-cert", &certificate, file()).help("certificate");
  options.add("tls-key", &key, file()).help("key");
  options.check("tls-key", [&]() -> std::optional<Refusal> {
    if (certificate.empty() == key.empty()) return std::nullopt;
    return Refusal{"is needed with --tls-cert", "set both or neither"};
  });
  const MapEnvironment none;
  const std::vector<std::string> args = {"--tls-cert=/c"};
  EXPECT_EQ(joined(options.parse(args, none.lookup())),
            "setting --tls-key: is needed with --tls-cert; set both or neither\n");
}

}  // namespace
}  // namespace tallygate::config
