// Refunds and disputes: once by their own id, in any order, and never more than the payment brought.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include "tests/integration/stripe/payments_world.h"

namespace tallygate::testing {
namespace {

using Json = nlohmann::json;

// Of 50.00 that was bought for 60.00 with tax.
struct Paid : PaymentsWorld {
  Paid() {
    const Answer made = begin("50.00", "k1");
    act({{"session", made.member("sessionId")}, {"does", "pay"}, {"tax", 1000}});
    EXPECT_TRUE(comes_to(50'000'000));
    payment = session(made.member("sessionId"))["payment_intent"].get<std::string>();
  }
  Json refund(int64_t minor) { return PaymentsWorld::refund(payment, minor); }
  void spend(int64_t micros) {
    ledger::Session session(api.url);
    EXPECT_TRUE(session.exec("select adjust_wallet('shop/acme', 'spent', null, 'GBP', $1, 'spent', 'test', '', now())", {-micros}));
  }
  bool is_suspended() {
    return number("select count(*) from wallets where tenant = 'shop/acme' and suspended_reason is not null") == 1;
  }
  std::string payment;
};

TEST(Takings, ARefundTakesItsPartAtThePaymentsOwnRate) {
  Paid world;
  const Json refund = world.refund(3000);
  EXPECT_TRUE(world.comes_to(25'000'000)) << "half of what was paid is half of what was bought";
  world.deliver_all_again();
  EXPECT_TRUE(world.settled());
  EXPECT_EQ(world.balance(), 25'000'000);
  world.refund(3000);
  EXPECT_TRUE(world.comes_to(0));
  world.audit();
}

TEST(Takings, ARefundThatFailsGivesBack) {
  for (const char* how : {"fail", "cancel"}) {
    Paid world;
    const Json refund = world.refund(6000);
    EXPECT_TRUE(world.comes_to(0));
    world.act({{"refund", refund["id"]}, {"does", how}});
    EXPECT_TRUE(world.comes_to(50'000'000)) << how;
    world.deliver_all_again();
    EXPECT_TRUE(world.settled());
    EXPECT_EQ(world.balance(), 50'000'000);
    world.audit();
  }
}

TEST(Takings, MayTakeTheBalanceBelowItsFloor) {
  Paid world;
  world.spend(50'000'000);
  world.refund(6000);
  EXPECT_TRUE(world.comes_to(-50'000'000));
  world.audit();
}

TEST(Takings, TogetherTakeAtMostWhatThePaymentBrought) {
  Paid world;
  world.refund(6000);
  EXPECT_TRUE(world.comes_to(0));
  const Json dispute = world.act({{"payment_intent", world.payment}, {"does", "dispute"}});
  EXPECT_TRUE(world.settled());
  EXPECT_EQ(world.balance(), 0);
  world.act({{"dispute", dispute["id"]}, {"does", "win"}});
  EXPECT_TRUE(world.settled());
  EXPECT_EQ(world.balance(), 0) << "the refund has it still";
  world.audit();
}

TEST(Takings, ADisputeSuspendsUntilItIsWon) {
  Paid world;
  const Json dispute = world.act({{"payment_intent", world.payment}, {"does", "dispute"}});
  EXPECT_TRUE(world.comes_to(0));
  EXPECT_TRUE(world.is_suspended());
  world.act({{"dispute", dispute["id"]}, {"does", "win"}});
  EXPECT_TRUE(world.comes_to(50'000'000));
  EXPECT_TRUE(world.settled());
  EXPECT_FALSE(world.is_suspended());
  world.audit();
}

TEST(Takings, ADisputeThatIsLostStaysTakenAndSuspended) {
  Paid world;
  const Json dispute = world.act({{"payment_intent", world.payment}, {"does", "dispute"}});
  world.act({{"dispute", dispute["id"]}, {"does", "lose"}});
  EXPECT_TRUE(world.settled());
  EXPECT_TRUE(world.comes_to(0));
  EXPECT_TRUE(world.is_suspended());
  EXPECT_EQ(world.number("select coalesce(sum(p.amount), 0) from ledger_postings p join ledger_accounts a on a.id = p.account where a.kind = 'disputes'"), 0)
      << "the house has nothing to wait for";
  world.audit();
}

TEST(Takings, AnInquiryTakesNothing) {
  Paid world;
  const Json inquiry = world.act({{"payment_intent", world.payment}, {"does", "inquiry"}});
  world.act({{"dispute", inquiry["id"]}, {"does", "lose"}});
  EXPECT_TRUE(world.settled());
  EXPECT_EQ(world.balance(), 50'000'000);
  EXPECT_FALSE(world.is_suspended());
}

TEST(Takings, SuspendNobodyWhereThatIsThePolicy) {
  Paid world;
  world.workers->stop();
  stripe::EventWorkersOptions options;
  options.database_url = world.api.url;
  options.suspend_on_dispute = false;
  metrics::Registry registry;
  stripe::EventWorkers lenient(system_env(), *world.api.stripe_client, options, registry);
  lenient.start();
  world.act({{"payment_intent", world.payment}, {"does", "dispute"}});
  EXPECT_TRUE(world.comes_to(0));
  EXPECT_FALSE(world.is_suspended());
  lenient.stop();
}

// Every order of a session's, a refund's and a dispute's events, each twice.
TEST(Takings, EveryOrderEndsTheSame) {
  PaymentsWorld world;
  std::mt19937 random(7);
  int64_t expected = 0;
  for (int round = 0; round < 30; ++round) {
    const std::string n = std::to_string(round);
    world.silence(true);
    const Answer made = world.begin(std::to_string(20 + round) + ".00", "k" + n);
    ASSERT_EQ(made.status, 201) << made.body;
    world.act({{"session", made.member("sessionId")}, {"does", "pay"}});
    const Json session = world.session(made.member("sessionId"));
    const std::string payment = session["payment_intent"];
    const auto refund = [&](const char* status) {
      return Json{{"id", "re_" + n}, {"object", "refund"}, {"amount", 700}, {"currency", "gbp"}, {"payment_intent", payment}, {"status", status}}.dump();
    };
    const auto dispute = [&](const char* status) {
      return Json{{"id", "du_" + n}, {"object", "dispute"}, {"amount", 900}, {"currency", "gbp"}, {"payment_intent", payment}, {"status", status}}.dump();
    };
    const bool fails = round % 2 == 0, won = round % 3 == 0;
    std::vector<std::pair<std::string, std::string>> events = {{"checkout.session.completed", session.dump()},
                                                               {"refund.created", refund("pending")},
                                                               {"refund.updated", refund("succeeded")},
                                                               {"charge.dispute.created", dispute("needs_response")},
                                                               {"charge.dispute.funds_withdrawn", dispute("under_review")},
                                                               {"charge.dispute.closed", dispute(won ? "won" : "lost")}};
    if (fails) events.emplace_back("refund.failed", refund("failed"));
    if (won) events.emplace_back("charge.dispute.funds_reinstated", dispute("won"));
    // What had been refunded before comes back of one that is lost, too: that is no gain of the customer's.
    if (!won && round % 4 == 1) events.emplace_back("charge.dispute.funds_reinstated", dispute("under_review"));
    const size_t count = events.size();
    for (size_t i = 0; i < count; ++i) events.push_back(events[i]);
    std::shuffle(events.begin(), events.end(), random);
    int number = 0;
    for (const auto& [type, object] : events) world.deliver("evt_" + n + "_" + std::to_string(number++), type, object);
    expected += (20 + round) * 1'000'000 - (fails ? 0 : 7'000'000) - (won ? 0 : 9'000'000);
  }
  EXPECT_TRUE(world.settled());
  EXPECT_EQ(world.balance(), expected);
  EXPECT_EQ(world.number("select count(*) from webhook_events where faults > 0"), 0);
  EXPECT_EQ(world.number("select coalesce(sum(taken_micros), 0) from stripe_payments"), [] {
    int64_t taken = 0;
    for (int round = 0; round < 30; ++round) taken += (round % 2 == 0 ? 0 : 7'000'000) + (round % 3 == 0 ? 0 : 9'000'000);
    return taken;
  }());
  world.audit();
}

}  // namespace
}  // namespace tallygate::testing
