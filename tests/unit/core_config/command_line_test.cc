#include "tests/unit/core_config/support.h"

namespace tallygate::config {
namespace {

class CommandLineTest : public testing::Test {
 protected:
  CommandLineTest() {
    declare(cli_.command("run", "serve requests"), sample_);
    cli_.command("stripe setup", "create products").add("dry-run", &dry_run_, boolean()).help("change nothing");
    cli_.command("migrate", "bring the database up to date");
  }
  CommandLine::Choice parse(const std::vector<std::string>& args) {
    return static_cast<const CommandLine&>(cli_).parse(args, MapEnvironment{}.lookup());
  }
  Sample sample_;
  bool dry_run_ = false;
  CommandLine cli_{"tallygate-test", "a test", "1.2.3"};
};

TEST_F(CommandLineTest, ChoosesACommandOfSeveralWords) {
  const auto choice = parse({"stripe", "setup", "--dry-run"});
  EXPECT_TRUE(choice.should_run());
  EXPECT_EQ(choice.command, "stripe setup");
  EXPECT_TRUE(dry_run_);
}

TEST_F(CommandLineTest, HelpListsTheCommandsAndEachCommandItsSettings) {
  const auto top = parse({"--help"});
  EXPECT_FALSE(top.should_run());
  EXPECT_EQ(top.exit_code, 0);
  EXPECT_NE(top.output.find("  run           serve requests\n"), std::string::npos) << top.output;
  EXPECT_NE(top.output.find("  stripe setup  create products\n"), std::string::npos);
  const auto run = parse({"run", "--help", "--nonsense"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_NE(run.output.find("--redis-url URL"), std::string::npos) << run.output;
}

TEST_F(CommandLineTest, ShowsItsVersion) { EXPECT_EQ(parse({"--version"}).output, "tallygate-test 1.2.3\n"); }

TEST_F(CommandLineTest, RefusesAnUnknownCommandWithASuggestion) {
  const auto typo = parse({"migrte"});
  EXPECT_EQ(typo.exit_code, kExitUsage);
  EXPECT_NE(typo.complaint.find("did you mean migrate?"), std::string::npos) << typo.complaint;
  EXPECT_NE(parse({"stripe", "seutp"}).complaint.find("did you mean stripe setup?"), std::string::npos);
  const auto nothing = parse({});
  EXPECT_EQ(nothing.exit_code, kExitUsage);
  EXPECT_NE(nothing.complaint.find("Commands:"), std::string::npos);
}

TEST_F(CommandLineTest, AGroupOfCommandsIsListed) {
  cli_.command("stripe events", "list events");
  for (const auto& args : {std::vector<std::string>{"stripe"}, {"stripe", "--dry-run"}}) {
    const auto choice = parse(args);
    EXPECT_EQ(choice.exit_code, kExitUsage);
    EXPECT_NE(choice.complaint.find("tallygate-test stripe setup  create products\n"), std::string::npos)
        << choice.complaint;
    EXPECT_NE(choice.complaint.find("stripe events"), std::string::npos);
  }
  const auto asked = parse({"stripe", "--help"});
  EXPECT_EQ(asked.exit_code, 0);
  EXPECT_NE(asked.output.find("stripe events"), std::string::npos) << asked.output;
}

TEST_F(CommandLineTest, VariablesThatAreNearlyOneAreToldOf) {
  const std::vector<std::string> names = {"PATH", "TALLYGATE_CONFG", "REDIS_URL", "TALLYGATE_SERVICE_HOST"};
  const auto lines = cli_.misspelled(names);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("TALLYGATE_CONFG: is no setting; did you mean TALLYGATE_CONFIG?"), std::string::npos)
      << lines[0];
}

TEST_F(CommandLineTest, OtherPrefixesAndCasesAreToldOfToo) {
  OptionSet& options = cli_.command("bill", "bills");
  std::string key, units;
  options.add("stripe-api-key", &key, text(0, 40)).env("STRIPE_API_KEY");
  options.add("float-units", &units, text(0, 40)).env();
  const std::pair<const char*, const char*> cases[] = {{"TALYGATE_FLOAT_UNITS", "TALLYGATE_FLOAT_UNITS"},
                                                       {"tallygate_float_units", "TALLYGATE_FLOAT_UNITS"},
                                                       {"STRIPE_APIKEY", "STRIPE_API_KEY"},
                                                       {"TALLYGATE_STRIPE_API_KEY", "STRIPE_API_KEY"}};
  for (const auto& [name, meant] : cases) {
    const std::vector<std::string> names = {name};
    const auto lines = cli_.misspelled(names);
    ASSERT_EQ(lines.size(), 1u) << name;
    EXPECT_NE(lines[0].find(std::string("did you mean ") + meant + "?"), std::string::npos) << lines[0];
  }
  const std::vector<std::string> others = {"PATH",
                                           "HOME",
                                           "STRIPE_WEBHOOK_SECRET",
                                           "TALLYGATE_SERVICE_PORT_HTTP",
                                           "FLOAT_UNITS",
                                           "STRIPE_API_KEY",
                                           "S",
                                           "_",
                                           "tally",
                                           "LC_ALL"};
  EXPECT_TRUE(cli_.misspelled(others).empty());
}

TEST_F(CommandLineTest, WrongSettingsEndWithTheUsageCode) {
  const auto choice = parse({"run", "--workers=0"});
  EXPECT_FALSE(choice.should_run());
  EXPECT_EQ(choice.exit_code, 64);
  EXPECT_EQ(choice.output, "");
  EXPECT_NE(choice.complaint.find("tallygate-test run: 2 settings are wrong:\n"), std::string::npos)
      << choice.complaint;
}

}  // namespace
}  // namespace tallygate::config
