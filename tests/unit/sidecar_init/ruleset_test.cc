// What the kernel tells of a table, held against what was asked for. The kernel itself is asked by tests/e2e/test_capture.py.
#include <gtest/gtest.h>

#include "sidecar/init/init.h"

namespace tallygate::sidecar {
namespace {

std::string chain(const std::string& extra = R"("policy": "accept")", const std::string& hook = "prerouting") {
  return R"({"chain": {"family": "inet", "table": "tallygate", "name": "inbound", "handle": 1, "type": "nat", "hook": ")" + hook +
         R"(", "prio": -100, )" + extra + "}}";
}

std::string rule(int from, int to, const std::string& device_op = "!=", const std::string& more = "") {
  return R"({"rule": {"family": "inet", "table": "tallygate", "chain": "inbound", "handle": 4, "expr": [)"
         R"({"match": {"op": ")" + device_op + R"(", "left": {"meta": {"key": "iifname"}}, "right": "lo"}},)"
         R"({"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": )" +
         std::to_string(from) + "}}," + more + R"({"redirect": {"port": )" + std::to_string(to) + "}}]}}";
}

std::string told(std::initializer_list<std::string> items) {
  std::string json = R"({"nftables": [{"metainfo": {"json_schema_version": 1}}, {"table": {"family": "inet", "name": "tallygate"}})";
  for (const auto& item : items) json += ", " + item;
  return json + "]}";
}

const std::vector<Redirect> kTwo = {{8080, 15006}, {9090, 15007}};

TEST(CaptureRuleset, IsOneTransactionThatMakesTheTableAnew) {
  EXPECT_EQ(ruleset(kTwo),
            "add table inet tallygate\ndelete table inet tallygate\ntable inet tallygate {\n  chain inbound {\n"
            "    type nat hook prerouting priority dstnat; policy accept;\n"
            "    iifname != \"lo\" tcp dport 8080 redirect to :15006\n"
            "    iifname != \"lo\" tcp dport 9090 redirect to :15007\n  }\n}\n");
}

TEST(CaptureRuleset, WithoutRedirectsTheTableGoes) {
  EXPECT_EQ(ruleset({}), "add table inet tallygate\ndelete table inet tallygate\n");
}

TEST(CaptureVerify, TakesTheSameInAnyOrder) {
  EXPECT_TRUE(verify(kTwo, told({chain(), rule(8080, 15006), rule(9090, 15007)})));
  EXPECT_TRUE(verify(kTwo, told({chain(), rule(9090, 15007), rule(8080, 15006)})));
}

TEST(CaptureVerify, RefusesWhatDiffers) {
  const std::pair<const char*, std::string> cases[] = {
      {"a rule is missing", told({chain(), rule(8080, 15006)})},
      {"a rule more", told({chain(), rule(8080, 15006), rule(9090, 15007), rule(9091, 15007)})},
      {"a rule twice", told({chain(), rule(8080, 15006), rule(8080, 15006), rule(9090, 15007)})},
      {"another port of the sidecar", told({chain(), rule(8080, 15006), rule(9090, 15008)})},
      {"loopback only", told({chain(), rule(8080, 15006, "=="), rule(9090, 15007)})},
      {"a further condition", told({chain(), rule(8080, 15006, "!=", R"({"counter": null},)"), rule(9090, 15007)})},
      {"no chain", told({rule(8080, 15006), rule(9090, 15007)})},
      {"another hook", told({chain(R"("policy": "accept")", "output"), rule(8080, 15006), rule(9090, 15007)})},
      {"drops", told({chain(R"("policy": "drop")"), rule(8080, 15006), rule(9090, 15007)})},
      {"nothing", told({})},
      {"no object", "[]"},
      {"no JSON", "Error: syntax"},
      {"strange types", R"({"nftables": [1, {"rule": 2}, {"chain": []}, {"rule": {"expr": [{}, {}, {}]}}]})"},
  };
  for (const auto& [name, json] : cases) {
    const auto verified = verify(kTwo, json);
    ASSERT_FALSE(verified) << name;
    EXPECT_FALSE(verified.error().message.empty()) << name;
  }
}

TEST(CaptureVerify, SaysWhatItFoundAndWhatItWanted) {
  const auto verified = verify(kTwo, told({chain(), rule(8080, 15006)}));
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().message, "the kernel redirects 8080 to 15006, wanted 8080 to 15006, 9090 to 15007");
}

std::vector<config::Fault> faults_of(std::vector<std::string> args) {
  InitSettings settings;
  config::OptionSet options;
  declare_init(options, settings);
  return options.parse(args, [](const std::string&) { return std::nullopt; });
}

TEST(CaptureSettings, FaultsNameTheFieldAndTheFix) {
  EXPECT_TRUE(faults_of({"--capture=8080:15006,9090:15007"}).empty());
  for (const char* bad : {"--capture=8080", "--capture=0:15006", "--capture=8080:70000", "--capture=http:15006",
                          "--capture=8080:15006,8080:15007", "--capture=8080:15006,15006:15007", "--capture=8080:8080"}) {
    const auto faults = faults_of({bad});
    ASSERT_EQ(faults.size(), 1u) << bad;
    EXPECT_EQ(faults[0].field, "capture") << bad;
    EXPECT_FALSE(faults[0].fix.empty()) << bad;
  }
  EXPECT_EQ(faults_of({}).size(), 1u);
}

}  // namespace
}  // namespace tallygate::sidecar
