// A thousand requests at once on a thousand connections, through one API server and through two on one database, as two
// operators are. A lock on the wallet's row holds them until all are there.
#include "tests/integration/api/world.h"

namespace tallygate::testing {
namespace {

constexpr int kCount = 1000;
constexpr int kReplayed = 1201;  // a 201 that repeats an earlier answer

std::string amount(const std::string& text) { return R"({"amount":")" + text + R"("})"; }
Ask purchase(int i) {
  return {.method = "POST",
          .path = "/v1/deductions",
          .body = amount("1000"),
          .token = kAcmeToken,
          .key = "p" + std::to_string(i)};
}
Ask reservation(int i, const std::string& call, const std::string& text) {
  return {.method = "POST",
          .path = "/v1/reservations",
          .body = R"({"callId":")" + call + R"(","amount":")" + text + R"("})",
          .token = kAcmeToken,
          .key = "r" + std::to_string(i)};
}

// Another operator's API on the world's database.
struct Replica {
  explicit Replica(const ApiWorld& world) {
    auto made = api::ApiServer::create(system_env(), world.url, std::nullopt, world.settings, registry);
    if (!made) throw std::runtime_error(made.error().message);
    server = std::move(*made);
    server->offer(sample_manifests(system_env().wall_s()));
    if (const auto started = server->start(); !started) throw std::runtime_error(started.error().message);
  }
  metrics::Registry registry;
  std::unique_ptr<api::ApiServer> server;
};

class Thousand : public ::testing::TestWithParam<int> {
 protected:
  Thousand() {
    world.credit("shop/acme", 1'000'000'000);
    for (int i = 1; i < GetParam(); ++i) replicas.push_back(std::make_unique<Replica>(world));
  }
  double sum(const std::string& name) const {
    double all = world.metric(name);
    for (const auto& replica : replicas) all += ApiWorld::metric_of(replica->registry, name);
    return all;
  }
  uint16_t port(int i) const {
    const auto n = static_cast<size_t>(i % GetParam());
    return n == 0 ? world.server->port() : replicas[n - 1]->server->port();
  }

  // How many answers there were of each status.
  std::map<int, int> at_once(const std::function<Ask(int)>& ask) {
    std::vector<std::unique_ptr<ApiClient>> clients;
    for (int i = 0; i < kCount; ++i) clients.push_back(std::make_unique<ApiClient>(port(i)));
    int64_t began_ms = 0;
    ledger::Session holder(world.url);
    const auto held = holder.transact([&](ledger::Transaction& transaction) -> Result<void> {
      if (auto locked = transaction.exec("select 1 from wallets where tenant = 'shop/acme' for update"); !locked) {
        return tl::unexpected(locked.error());
      }
      for (int i = 0; i < kCount; ++i) clients[static_cast<size_t>(i)]->start(ask(i));
      const double at_work_max = static_cast<double>(world.settings.workers) * GetParam();
      const auto there = [&] {
        return sum("tallygate_operator_api_connections") == kCount &&
               sum("tallygate_operator_api_queued_requests") >= kCount - at_work_max;
      };
      for (int tries = 0; !there() && tries < 1000; ++tries) system_env().sleep_ms(1);
      EXPECT_EQ(sum("tallygate_operator_api_connections"), kCount);
      EXPECT_GE(sum("tallygate_operator_api_queued_requests"), kCount - at_work_max)
          << "they are not all there at once";
      began_ms = system_env().mono_ms();
      return {};
    });
    EXPECT_TRUE(held);
    std::map<int, int> statuses;
    for (auto& client : clients) {
      const Answer answer = client->finish();
      ++statuses[answer.status == 201 && answer.replayed() ? kReplayed : answer.status];
      EXPECT_TRUE(answer.status != 402 || !answer.member("shortfall").empty()) << answer.body;
    }
    std::printf("%d through %d server(s): %ld ms; rolled back %.0f, in doubt %.0f, exhausted %.0f, overload %.0f\n",
                kCount, GetParam(), static_cast<long>(system_env().mono_ms() - began_ms),
                sum("tallygate_operator_api_rollbacks_total"), sum("tallygate_operator_api_in_doubt_total"),
                sum("tallygate_operator_api_pool_exhausted_total"), sum("tallygate_operator_api_overload_total"));
    EXPECT_EQ(sum("tallygate_operator_api_rollbacks_total"), 0) << "a deadlock or a serialization fault";
    EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
    return statuses;
  }

  ApiWorld world;
  std::vector<std::unique_ptr<Replica>> replicas;
};
INSTANTIATE_TEST_SUITE_P(Servers, Thousand, ::testing::Values(1, 2));

TEST_P(Thousand, PurchasesOfTheWholeBalanceOneSucceeds) {
  EXPECT_EQ(at_once(purchase), (std::map<int, int>{{201, 1}, {402, kCount - 1}}));
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "0.00");
}

TEST_P(Thousand, ReservationsOfOneCallOneIsNew) {
  const auto statuses = at_once([](int i) { return reservation(i, "one", "10"); });
  EXPECT_EQ(statuses, (std::map<int, int>{{201, 1}, {kReplayed, kCount - 1}}));
  EXPECT_EQ(world.get("/v1/wallet").member("reserved"), "10.00");
}

TEST_P(Thousand, PurchasesAndReservationsNeverTakeMoreThanThereIs) {
  world.credit("shop/acme", 6'000'000'000);  // for seven in all
  const auto statuses =
      at_once([](int i) { return i % 2 == 0 ? purchase(i) : reservation(i, "c" + std::to_string(i), "1000"); });
  EXPECT_EQ(statuses, (std::map<int, int>{{201, 7}, {402, kCount - 7}}));
  EXPECT_EQ(world.get("/v1/wallet").member("effective"), "0.00");
}

// One tenant's wallet is locked, and a thousand of its requests wait. Others are served as if they were not there; the
// thousand are answered within their deadline, 503 with Retry-After, and repeated they have one effect each.
TEST(ApiOverload, ALockedWalletStopsNobodyElseAndItsRequestsEndInTime) {
  constexpr int64_t kDeadlineMs = 1'000;
  ApiWorld world({.prepare = [](ApiWorld& w) { w.settings.deadline_ms = kDeadlineMs; }});
  world.credit("shop/acme", 2'000'000'000);
  world.credit("shop/globex", 1'000'000'000);
  const auto ask = [](int i) {
    Ask one = purchase(i);
    one.body = amount("1");
    return one;
  };
  std::vector<std::unique_ptr<ApiClient>> clients;
  for (int i = 0; i < kCount; ++i) clients.push_back(std::make_unique<ApiClient>(world.server->port()));
  int refused = 0;
  int64_t other_ms_max = 0, last_ms = 0;
  ledger::Session holder(world.url);
  const auto held = holder.transact([&](ledger::Transaction& transaction) -> Result<void> {
    (void)transaction.exec("select 1 from wallets where tenant = 'shop/acme' for update");
    const int64_t began_ms = system_env().mono_ms();
    for (int i = 0; i < kCount; ++i) clients[static_cast<size_t>(i)]->start(ask(i));
    for (int i = 0; i < 20; ++i) {
      const int64_t at_ms = system_env().mono_ms();
      Ask other = ask(i);
      other.token = kGlobexToken;
      EXPECT_EQ(world.send(other).status, 201);
      other_ms_max = std::max(other_ms_max, system_env().mono_ms() - at_ms);
    }
    for (int i = 0; i < kCount; ++i) {
      const Answer answer = clients[static_cast<size_t>(i)]->finish();
      EXPECT_EQ(answer.status, 503) << answer.body;
      EXPECT_NE(answer.head.find("Retry-After: 1"), std::string::npos) << answer.head;
      ++refused;
    }
    last_ms = system_env().mono_ms() - began_ms;
    return {};
  });
  EXPECT_TRUE(held) << held.error().message;
  std::printf("%d refused, the last after %ld ms; another tenant waited for %ld ms at most\n", refused,
              static_cast<long>(last_ms), static_cast<long>(other_ms_max));
  EXPECT_LT(other_ms_max, kDeadlineMs / 2) << "another tenant waited for this one";
  EXPECT_LT(last_ms, 5 * kDeadlineMs / 2);
  EXPECT_GT(world.metric("tallygate_operator_api_overload_total"), 0);
  // Not all at once again: with this deadline that would be too many.
  constexpr int kRepeated = 100;
  for (int i = 0; i < 2 * kRepeated; ++i) {
    const Answer answer = clients[static_cast<size_t>(i % kRepeated)]->send(ask(i % kRepeated));
    EXPECT_EQ(answer.status, 201) << answer.body;
    EXPECT_EQ(answer.replayed(), i >= kRepeated);
  }
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "1900.00");
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

}  // namespace
}  // namespace tallygate::testing
