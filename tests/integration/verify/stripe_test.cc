// Each damage at Stripe has a row of its own.
#include "tests/integration/verify/world.h"

namespace tallygate::testing {
namespace {

using verify::Outcome;

TEST(VerifyStripe, WrongKeyIsTold) {
  VerifyWorld world;
  world.key = "sk_live_of_somebody_else";
  const auto report = world.verify();
  expect_fault(report, "stripe: key", Outcome::kWrong, "401");
  EXPECT_EQ(report.table().find(world.key), std::string::npos);
}

TEST(VerifyStripe, MeterThatIsMissingIsTold) {
  VerifyWorld world;
  world.sql("update tenant_meters set meter = 'tokens'");
  expect_fault(world.verify(), "stripe: meter tokens", Outcome::kMissing, "no meter");
}

TEST(VerifyStripe, InactiveMeterIsTold) {
  VerifyWorld world;
  world.stripe().create_meter("retired");
  world.stripe().deactivate_meter("retired");
  world.sql("update tenant_meters set meter = 'retired'");
  expect_fault(world.verify(), "stripe: meter retired", Outcome::kWrong, "inactive");
}

TEST(VerifyStripe, MetersBeyondTheFirstPageAreSeen) {
  VerifyWorld world;
  for (int i = 0; i < 110; ++i) world.stripe().create_meter("many_" + std::to_string(i));
  const auto report = world.verify();
  EXPECT_TRUE(report.all_right()) << report.table();
}

TEST(VerifyStripe, CustomersThatAreMissingAreTold) {
  VerifyWorld world;
  world.sql("update tenant_meters set stripe_customer_id = 'cus_nobody'");
  expect_fault(world.verify(), "stripe: customer cus_nobody", Outcome::kMissing, "no such customer");
  world.sql("update tenant_meters set stripe_customer_id = ''");
  expect_fault(world.verify(), "stripe: customers", Outcome::kMissing, "shop/acme");
}

TEST(VerifyStripe, StripeThatIsAwayIsOneRow) {
  VerifyWorld world;
  auto deployment = world.deployment();
  deployment.stripe->api_base = "http://127.0.0.1:1";
  const auto http = make_curl_client();
  const auto report = verify::verify(system_env(), deployment, *http);
  expect_fault(report, "stripe: reachable", Outcome::kWrong, "");
}

}  // namespace
}  // namespace tallygate::testing
