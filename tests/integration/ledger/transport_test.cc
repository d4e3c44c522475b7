// How what is said to a database travels is known before anything is said.
#include <gtest/gtest.h>

#include <cstdlib>

#include "operator/ledger/settings.h"

namespace tallygate::testing {
namespace {

using ledger::Transport;
using ledger::transport_of;

TEST(Transport, OfUrls) {
  const struct {
    const char* url;
    Transport transport;
  } cases[] = {
      {"postgresql:///d", Transport::kLocal},
      {"postgresql://127.0.0.1:9/d", Transport::kLocal},
      {"postgresql://[::1]/d", Transport::kLocal},
      {"postgres://localhost/d?sslmode=disable", Transport::kLocal},
      {"postgresql://%2Frun%2Fpostgresql/d", Transport::kLocal},
      {"postgresql:///d?host=/run/postgresql", Transport::kLocal},
      {"postgresql://127.example.com/d", Transport::kPlain},
      {"postgresql://db/d", Transport::kPlain},
      {"postgresql://db/d?sslmode=disable", Transport::kPlain},
      {"postgresql://db/d?sslmode=allow", Transport::kPlain},
      {"postgresql://db/d?sslmode=prefer", Transport::kPlain},
      {"postgresql://127.0.0.1,db/d", Transport::kPlain},
      {"postgresql:///d?host=db", Transport::kPlain},
      {"postgresql://127.0.0.1/d?hostaddr=10.0.0.1", Transport::kPlain},
      {"postgresql://db/d?hostaddr=127.0.0.1", Transport::kLocal},
      {"postgresql://db/d?sslmode=require", Transport::kEncrypted},
      {"postgresql://db/d?sslmode=verify-ca", Transport::kEncrypted},
      {"postgresql://db,other/d?sslmode=verify-full", Transport::kVerified},
      {"postgresql://db/d?sslmode=nonsense", Transport::kPlain},
      {"postgresql://db/d?no_such_parameter=1", Transport::kPlain},
  };
  for (const auto& c : cases) EXPECT_EQ(transport_of(c.url), c.transport) << c.url;
}

TEST(Transport, OfWhatTheEnvironmentAdds) {
  ::setenv("PGHOST", "db", 1);
  EXPECT_EQ(transport_of("postgresql:///d"), Transport::kPlain);
  EXPECT_EQ(transport_of("postgresql://127.0.0.1/d"), Transport::kLocal);
  ::setenv("PGSSLMODE", "verify-full", 1);
  EXPECT_EQ(transport_of("postgresql:///d"), Transport::kVerified);
  EXPECT_EQ(transport_of("postgresql:///d?sslmode=require"), Transport::kEncrypted);
  ::unsetenv("PGHOST");
  ::unsetenv("PGSSLMODE");
}

TEST(Transport, IsRefusedOrWarnedOf) {
  EXPECT_TRUE(ledger::check_transport("postgresql://db/d", false));
  EXPECT_FALSE(ledger::check_transport("postgresql://db/d", true));
  EXPECT_FALSE(ledger::check_transport("postgresql://db/d?sslmode=require", false));
  EXPECT_NE(ledger::transport_warning("postgresql://db/d"), "");
  EXPECT_NE(ledger::transport_warning("postgresql://db/d?sslmode=verify-ca"), "");
  EXPECT_EQ(ledger::transport_warning("postgresql://db/d?sslmode=verify-full"), "");
  EXPECT_EQ(ledger::transport_warning("postgresql:///d"), "");
}

}  // namespace
}  // namespace tallygate::testing
