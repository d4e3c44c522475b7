// Every malformed setting ends the start with status 64 and names what is wrong; no secret is ever shown.
#include <gtest/gtest.h>

#include <map>

#include "tests/integration/operator/operator_process.h"

namespace tallygate::testing {
namespace {

using Flags = std::map<std::string, std::string>;
using Words = std::vector<std::string>;

const Flags kGood{{"--source", "dir:/tmp"},
                  {"--redis-url", "redis://127.0.0.1:9"},
                  {"--database-url", "postgresql://u@127.0.0.1:9/d"},
                  {"--admin", "127.0.0.1:0"}};
constexpr char kLeftOut[] = "(left out)";

struct Row {
  const char* name;
  Flags flags;                   // on top of kGood
  std::vector<std::string> env;  // on top of a good key
  Words named;                   // what the complaint must mention
};

const std::vector<Row>& rows() {
  static const std::vector<Row> kRows{
      {"nothing at all",
       {{"--source", kLeftOut}, {"--redis-url", kLeftOut}, {"--database-url", kLeftOut}},
       {},
       {"source", "redis-url", "database-url"}},
      {"an unknown flag", {{"--bogus", "1"}}, {}, {"--bogus"}},
      {"a flag misspelt", {{"--databse-url", "postgresql://h/d"}}, {}, {"--databse-url", "--database-url"}},
      {"a source without a kind", {{"--source", "/etc/manifests"}}, {}, {"source", "dir:PATH"}},
      {"a source that is not there", {{"--source", "dir:/no/such/folder"}}, {}, {"source", "/no/such/folder"}},
      {"a source that is a file", {{"--source", "dir:/etc/passwd"}}, {}, {"source"}},
      {"a cluster where there is none", {{"--source", "kubernetes"}}, {}, {"source", "kubernetes:KUBECONFIG"}},
      {"a kubeconfig that is not there", {{"--source", "kubernetes:/no/such/file"}}, {}, {"source", "/no/such/file"}},
      {"a proxy that is no address block",
       {{"--api-trusted-proxies", "10.0.0.0/8,10.0.0.0/33"}},
       {},
       {"api-trusted-proxies", "10.0.0.0/33"}},
      {"redis over http", {{"--redis-url", "http://h:1"}}, {}, {"redis-url"}},
      {"a redis database that is no number", {{"--redis-url", "redis://h:1/x"}}, {}, {"redis-url"}},
      {"a password in a flag", {{"--redis-url", "redis://:hunter2@h:1"}}, {}, {"redis-url", "TALLYGATE_REDIS_URL"}},
      {"a database password in a flag",
       {{"--database-url", "postgresql://u:hunter2@h/d"}},
       {},
       {"database-url", "TALLYGATE_DATABASE_URL"}},
      {"redis in plain text elsewhere",
       {{"--redis-url", "redis://h:1"}},
       {},
       {"redis-url", "rediss://", "--redis-insecure"}},
      {"a client's certificate without its key",
       {{"--redis-cert-file", "/etc/hostname"}},
       {},
       {"redis-url", "--redis-cert-file", "--redis-key-file"}},
      {"a database in plain text elsewhere",
       {{"--database-url", "postgresql://u@h/d"}},
       {},
       {"database-url", "sslmode=verify-full", "--database-insecure"}},
      {"an API's database in plain text elsewhere",
       {{"--api-database-url", "postgresql://u@h/d?sslmode=prefer"}},
       {},
       {"api-database-url", "plain text"}},
      {"another database", {{"--database-url", "mysql://h/d"}}, {}, {"database-url"}},
      {"redis from a bad variable",
       {{"--redis-url", kLeftOut}},
       {"TALLYGATE_REDIS_URL=nonsense"},
       {"TALLYGATE_REDIS_URL"}},
      {"a role that is none", {{"--roles", "controller,janitor"}}, {}, {"roles", "janitor"}},
      {"no role", {{"--roles", ""}}, {}, {"roles"}},
      {"an admin port that is no number", {{"--admin", "127.0.0.1:x"}}, {}, {"admin"}},
      {"an admin port out of range", {{"--admin", "127.0.0.1:70000"}}, {}, {"admin"}},
      {"an interval without a unit", {{"--aggregate-interval", "60"}}, {}, {"aggregate-interval", "unit"}},
      {"an interval of nothing", {{"--aggregate-interval", "0s"}}, {}, {"aggregate-interval"}},
      {"a negative interval", {{"--submit-interval", "-5m"}}, {}, {"submit-interval"}},
      {"an interval of a month", {{"--submit-interval", "31d"}}, {}, {"submit-interval"}},
      {"negative lateness", {{"--aggregate-lateness", "-1s"}}, {}, {"aggregate-lateness"}},
      {"no float", {{"--float-units", "0"}}, {}, {"float-units"}},
      {"a float that is no number", {{"--float-units", "many"}}, {}, {"float-units"}},
      {"stripe half enabled", {{"--stripe", "maybe"}}, {}, {"stripe", "maybe"}},
      {"stripe without a key", {}, {"STRIPE_API_KEY="}, {"STRIPE_API_KEY", "--stripe=disabled"}},
      {"payments without a webhook's secret",
       {{"--api", "127.0.0.1:0"}, {"--api-service-tokens-file", "examples/api/service_tokens.json"}},
       {},
       {"stripe-webhook-secret", "STRIPE_WEBHOOK_SECRET", "--stripe=disabled"}},
      {"a webhook's secret that is none", {}, {"STRIPE_WEBHOOK_SECRET=hunter2"}, {"STRIPE_WEBHOOK_SECRET", "whsec_"}},
      {"one of two such", {}, {"STRIPE_WEBHOOK_SECRET=whsec_0123456789,hunter2"}, {"STRIPE_WEBHOOK_SECRET"}},
      {"a webhook's secret in a flag",
       {{"--stripe-webhook-secret", "whsec_hunter2hunter2"}},
       {},
       {"stripe-webhook-secret"}},
      {"no workers", {{"--stripe-webhook-workers", "0"}}, {}, {"stripe-webhook-workers"}},
      {"a key that is none", {}, {"STRIPE_API_KEY=hunter2"}, {"STRIPE_API_KEY"}},
      {"a publishable key", {}, {"STRIPE_API_KEY=pk_test_hunter2"}, {"STRIPE_API_KEY"}},
      {"a key with a line break", {}, {"STRIPE_API_KEY=sk_test_hunter2\nx"}, {"STRIPE_API_KEY"}},
      {"a key in a flag", {{"--stripe-api-key", "sk_test_hunter2"}}, {}, {"stripe-api-key"}},
      {"a key file that is not there", {{"--stripe-api-key-file", "/no/such/file"}}, {}, {"/no/such/file"}},
      {"a base that is no URL", {{"--stripe-api-base", "stripe"}}, {}, {"stripe-api-base"}},
      {"a base over plain HTTP", {{"--stripe-api-base", "http://stripe.example"}}, {}, {"stripe-api-base", "https"}},
      {"a base with a path", {{"--stripe-api-base", "https://stripe.example/v1"}}, {}, {"stripe-api-base"}},
      {"a base from a bad variable", {}, {"STRIPE_API_BASE=::"}, {"STRIPE_API_BASE"}},
      {"a version that is none", {{"--stripe-version", "newest"}}, {}, {"stripe-version"}},
      {"too many calls at once", {{"--stripe-concurrency", "1000"}}, {}, {"stripe-concurrency"}},
      {"more calls than Stripe allows", {{"--stripe-calls-per-second", "5000"}}, {}, {"stripe-calls-per-second"}},
      {"a time-out of nothing", {{"--stripe-timeout", "1ms"}}, {}, {"stripe-timeout"}},
      {"a log level that is none", {{"--log-level", "loud"}}, {}, {"log-level", "loud"}},
      {"a settings file that is not there", {{"--config", "/no/such/file.yaml"}}, {}, {"/no/such/file.yaml"}},
      {"many at once",
       {{"--source", "x"}, {"--redis-url", "y"}, {"--admin", "z"}, {"--submit-interval", "5"}},
       {"STRIPE_API_KEY=hunter2"},
       {"source", "redis-url", "admin", "submit-interval", "STRIPE_API_KEY"}},
  };
  return kRows;
}

TEST(OperatorSettings, EveryRowIsRefused) {
  for (const auto& row : rows()) {
    SCOPED_TRACE(row.name);
    Flags flags = kGood;
    for (const auto& [flag, value] : row.flags) flags[flag] = value;
    Words args{"run"};
    for (const auto& [flag, value] : flags) {
      if (value != kLeftOut) args.push_back(flag + "=" + value);
    }
    Words environment{"STRIPE_API_KEY=sk_test_emulator"};
    environment.insert(environment.end(), row.env.begin(), row.env.end());
    const Ended ended = run_operator(args, environment);
    EXPECT_EQ(ended.code, 64) << ended.output;
    for (const auto& word : row.named)
      EXPECT_NE(ended.output.find(word), std::string::npos) << word << "\n" << ended.output;
    EXPECT_EQ(ended.output.find("hunter2"), std::string::npos) << ended.output;
  }
}

TEST(OperatorSettings, Commands) {
  EXPECT_EQ(run_operator({}).code, 64);
  EXPECT_EQ(run_operator({"frobnicate"}).code, 64);
  EXPECT_EQ(run_operator({"migrate"}).code, 64);
  EXPECT_EQ(run_operator({"--version"}).code, 0);
  const Ended help = run_operator({"run", "--help"});
  EXPECT_EQ(help.code, 0);
  for (const char* flag : {"--source", "--redis-url", "--database-url", "--admin", "--roles", "--[no-]migrate",
                           "--aggregate-interval", "--submit-interval", "--stripe", "--stripe-api-base",
                           "--stripe-version", "--stripe-concurrency", "STRIPE_API_KEY"}) {
    EXPECT_NE(help.output.find(flag), std::string::npos) << flag;
  }
}

TEST(OperatorSettings, AMigrationWithoutADatabaseFails) {
  const Ended ended = run_operator({"migrate", "--database-url", "postgresql://u@127.0.0.1:9/d"});
  EXPECT_EQ(ended.code, 1);
  EXPECT_NE(ended.output.find("PostgreSQL"), std::string::npos);
}

}  // namespace
}  // namespace tallygate::testing
