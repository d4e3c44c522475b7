#include "operator/ledger/session.h"

#include <gtest/gtest.h>

#include "operator/ledger/migrator.h"

namespace tallygate::ledger {
namespace {

TEST(Session, AServerThatIsAwayIsUnavailable) {
  Session session("postgresql://nobody@127.0.0.1:1/none?connect_timeout=1");
  const auto rows = session.exec("select 1");
  ASSERT_FALSE(rows);
  EXPECT_EQ(rows.error().errc, Errc::kUnavailable);
  EXPECT_FALSE(session.connected());
}

TEST(Session, CopyFieldsAreEscaped) {
  std::string line;
  append_copy_field(line, "a\tb\\c\nd\re");
  append_copy_field(line, "");
  append_copy_field(line, int64_t{-7});
  EXPECT_EQ(line, "a\\tb\\\\c\\nd\\re\t\t-7");
}

TEST(Session, TimestampsAreUtcWithMicroseconds) {
  EXPECT_EQ(timestamp_text(1'700'000'000'000'123'456), "2023-11-14 22:13:20.000123+00");
}

TEST(Migrations, HaveNumbersOfTheirOwnInOrder) {
  std::string before;
  for (const Migration& migration : embedded_migrations()) {
    EXPECT_LT(before.substr(0, 4), migration.name.substr(0, 4)) << migration.name;
    before = migration.name;
  }
}

}  // namespace
}  // namespace tallygate::ledger
