// The golden list of the schema is what the migrations make.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "operator/verify/catalogue.h"
#include "tests/integration/support/postgres_server.h"

namespace tallygate::testing {
namespace {

constexpr const char* kGolden = "tests/golden/schema.txt";

TEST(Golden, SchemaIsWhatTheMigrationsMake) {
  ledger::Session session(PostgresServer::shared().create_database());
  const auto entries = verify::read_catalogue(session);
  ASSERT_TRUE(entries) << entries.error().message;
  const std::string made = verify::to_text(*entries);
  ASSERT_EQ(verify::parse_catalogue(made), *entries);
  if (std::getenv("TALLYGATE_UPDATE_GOLDEN")) {
    std::ofstream(kGolden) << made;
    GTEST_SKIP() << "wrote " << kGolden;
  }
  std::ifstream file(kGolden);
  std::ostringstream kept;
  kept << file.rdbuf();
  EXPECT_TRUE(kept.str() == made)
      << "the migrations make another schema than " << kGolden
      << " says: look at the difference after\n  TALLYGATE_UPDATE_GOLDEN=1 integration_verify "
         "--gtest_filter='Golden.*'\nand commit it with the migration";
  EXPECT_EQ(verify::golden_schema(), kept.str()) << "built from another list: build again";
}

}  // namespace
}  // namespace tallygate::testing
