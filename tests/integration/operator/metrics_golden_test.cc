// What the operator can be watched by: a name that changes breaks somebody's alert. The list is
// tests/golden/metrics.txt.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <thread>

#include "tests/integration/operator/operator_process.h"
#include "tests/integration/support/postgres_server.h"
#include "tests/integration/support/redis_server.h"

namespace tallygate::testing {
namespace {

constexpr const char* kGolden = "tests/golden/metrics.txt";
const std::set<std::string> kOthers{"route", "version", "plan", "meter", "limit", "tenant"};

// A line a name: its type, and its labels with the values that are there from the start. Routes, versions and what the
// manifests name are others'.
std::string summary(const std::string& scrape) {
  std::map<std::string, std::string> types;
  std::map<std::string, std::map<std::string, std::set<std::string>>> labels;
  std::istringstream lines(scrape);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# TYPE ")) {
      std::istringstream words(line.substr(7));
      std::string name;
      words >> name >> types[name];
    }
    const size_t open = line.find('{');
    if (line.starts_with('#') || open == std::string::npos) continue;
    auto& of_name = labels[line.substr(0, open)];
    std::istringstream pairs(line.substr(open + 1, line.find('}') - open - 1));
    for (std::string pair; std::getline(pairs, pair, ',');) {
      const size_t equals = pair.find('=');
      const std::string label = pair.substr(0, equals);
      if (label == "le") continue;
      auto& values = of_name[label];
      if (!kOthers.contains(label)) values.insert(pair.substr(equals + 1));
    }
  }
  std::string out;
  for (const auto& [name, type] : types) {
    out += name + " " + type;
    for (const auto& [label, values] : labels[name]) {
      out += " " + label + "=";
      for (const auto& value : values) out += (value == *values.begin() ? "" : "|") + value.substr(1, value.size() - 2);
    }
    out += "\n";
  }
  return out;
}

TEST(MetricsGolden, AreThoseOfTheList) {
  RedisServer redis;
  ManifestFolder folder;
  folder.write("all.yaml", R"(
apiVersion: billing.tallygate.dev/v1alpha1
kind: BillingPlan
metadata: {name: p-v1}
spec:
  displayName: P
  family: p
  pricing:
    currency: GBP
    basePrice: "0"
    meters:
    - {name: calls, unit: call, aggregation: Sum, settlement: Invoice, perUnits: 1, tiers: [{price: "1"}]}
    - {name: runs, unit: run, aggregation: Sum, settlement: Wallet, perUnits: 1, tiers: [{price: "1"}]}
  limits:
  - {name: calls-month, meter: calls, amount: 100, window: Month, cap: Hard}
---
apiVersion: billing.tallygate.dev/v1alpha1
kind: BillingTenant
metadata: {name: acme, namespace: shop}
spec:
  displayName: Acme
  planRef: {name: p-v1}
  billing: {email: billing@acme.example, interval: Month, stripe: {customerID: cus_1}}
  identity: {externalIDs: [acme]}
  wallet: {currency: GBP, debtLimit: "5.00"}
)");
  OperatorProcess op;
  op.start({"run", "--source=dir:" + folder.path(), "--admin=127.0.0.1:0", "--api=127.0.0.1:0",
            "--api-service-tokens-file=examples/api/service_tokens.json", "--metrics-interval=1s", "--tenant-metrics=1"},
           {"TALLYGATE_REDIS_URL=redis://127.0.0.1:" + std::to_string(redis.port()),
            "TALLYGATE_DATABASE_URL=" + PostgresServer::shared().create_database(),
            "STRIPE_API_KEY=sk_test_0123456789abcdef", "STRIPE_WEBHOOK_SECRET=whsec_0123456789abcdef",
            "STRIPE_API_BASE=http://127.0.0.1:9"});
  ASSERT_FALSE(op.wait_line({"\"msg\":\"listening\""}).empty()) << op.log();
  ASSERT_TRUE(op.wait_ready()) << op.log();
  std::ifstream file(kGolden);
  std::ostringstream kept;
  kept << file.rdbuf();
  // Series of the ledger come as it is read, those of a tenant once the funder has looked at it.
  std::string made;
  for (int i = 0; i < 200 && made != kept.str(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    made = summary(op.get("/metrics").body);
  }
  if (std::getenv("TALLYGATE_UPDATE_GOLDEN")) {
    std::ofstream(kGolden) << made;
    GTEST_SKIP() << "wrote " << kGolden;
  }
  EXPECT_EQ(kept.str(), made) << "where that is right: TALLYGATE_UPDATE_GOLDEN=1 integration_operator "
                                 "--gtest_filter='MetricsGolden.*' writes the list anew";
}

}  // namespace
}  // namespace tallygate::testing
