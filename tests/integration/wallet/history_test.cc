// The wallet's history with usage in it: lines that add up, pages that stay right, a cost that does not grow.
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "tests/integration/wallet/world.h"

namespace tallygate::testing {
namespace {

struct Line {
  int64_t place = 0;
  std::string id, kind;
  int64_t amount = 0, balance_after = 0;
  std::map<std::string, int64_t> units;
  bool operator==(const Line&) const = default;
};

// A wallet whose meters sms and calls cost money: the first ten calls are free, then three for a micro.
class HistoryWorld : public WalletWorld {
 public:
  explicit HistoryWorld(int64_t balance) : WalletWorld(balance) {
    must(
        owner.exec("insert into tenant_meters (tenant, meter, settlement, currency, per_units, tiers) values "
                   "($1, 'sms', 'wallet', 'GBP', 1, '[{\"price_micros\": 7}]'), "
                   "($1, 'calls', 'wallet', 'GBP', 3, '[{\"up_to\": 10, \"price_micros\": 0}, {\"price_micros\": 1}]')",
                   {tenant}));
  }
  void use(const std::string& id, const std::string& meter, int64_t units, const std::string& now) {
    must(
        owner.exec("select * from book_direct_usage($1, 1, jsonb_build_array(jsonb_build_object('id', $2::text, "
                   "'fingerprint', '', 'meter', $3::text, 'units', $4::bigint, 'second', extract(epoch from "
                   "$5::timestamptz)::bigint, 'dims', '{}', 'buckets', jsonb_build_array($3 || '$'))), $5)",
                   {tenant, id, meter, units, now}));
  }
  void correct(const std::string& id, const std::string& corrects, int64_t units, const std::string& now) {
    EXPECT_EQ(must(owner.exec("select o_status from correct_usage($1, 1, $2, '', $3, $4, 'counted twice', 'test', '', "
                              "'-infinity', $5)",
                              {tenant, id, corrects, units, now}))
                  .text(0, 0),
              "new");
  }
  // As the API reads it.
  std::vector<Line> page(int64_t before, int64_t limit) {
    const auto rows = must(api.session.exec(
        "select place, id, kind, amount_micros, balance_after_micros, units from wallet_transactions($1, null, $2, $3)",
        {tenant, before == 0 ? ledger::Param(std::nullopt) : ledger::Param(before), limit}));
    std::vector<Line> out;
    for (size_t i = 0; i < rows.size(); ++i) {
      Line& line = out.emplace_back();
      line.place = rows.integer(i, 0);
      line.id = rows.text(i, 1);
      line.kind = rows.text(i, 2);
      line.amount = rows.integer(i, 3);
      line.balance_after = rows.integer(i, 4);
      if (!rows.is_null(i, 5))
        line.units = nlohmann::json::parse(rows.text(i, 5)).get<std::map<std::string, int64_t>>();
    }
    return out;
  }
  int64_t balance() { return number("select balance_micros from wallets where tenant = $1", {tenant}); }
};

void expect_adds_up(const std::vector<Line>& newest_first, int64_t balance) {
  for (const Line& line : newest_first) {
    EXPECT_EQ(line.balance_after, balance) << line.id;
    balance -= line.amount;
  }
  EXPECT_EQ(balance, 0);
}

TEST(History, AnHoursUsageIsOneLineUntilSomethingElseComes) {
  HistoryWorld w(1'000'000);
  for (int i = 0; i < 300; ++i) {
    w.use("a" + std::to_string(i), i % 2 == 0 ? "sms" : "calls", 2, "2026-11-21 12:00:00+00");
  }
  w.api.purchase("p", 1000);
  w.use("b", "sms", 1, "2026-11-21 12:30:00+00");
  w.correct("c", "b", 0, "2026-11-21 12:31:00+00");
  w.use("d", "sms", 5, "2026-11-21 12:32:00+00");
  w.use("e", "sms", 6, "2026-11-21 13:00:00+00");
  const auto lines = w.page(0, 100);
  std::vector<std::string> kinds;
  for (const Line& line : lines) kinds.push_back(line.kind);
  EXPECT_EQ(kinds,
            (std::vector<std::string>{"usage", "usage", "usage_correction", "usage", "purchase", "usage", "credit"}));
  expect_adds_up(lines, w.balance());
  EXPECT_EQ(lines[5].units, (std::map<std::string, int64_t>{{"calls", 300}, {"sms", 300}}));
  EXPECT_EQ(lines[5].amount, -(300 * 7 + 97)) << "290 calls above the free ones at a third: 96.67";
  EXPECT_EQ(lines[2].units, (std::map<std::string, int64_t>{{"sms", -1}}));
  EXPECT_EQ(lines[2].amount, 7);
}

TEST(History, UnitsThatCostNothingAreToldWithTheNextThatDo) {
  HistoryWorld w(1000);
  w.use("free", "calls", 10, kNow);
  EXPECT_EQ(w.page(0, 10).size(), 1u);
  w.use("more", "calls", 30, kNow);
  EXPECT_EQ(w.page(0, 10)[0].units, (std::map<std::string, int64_t>{{"calls", 40}}));
}

// Random operations, read page by page while more of them come.
TEST(History, PagesStayRightWhileRowsCome) {
  HistoryWorld w(1'000'000'000);
  std::mt19937_64 random(20261126);
  std::map<std::string, int64_t> used;
  int count = 0;
  const auto step = [&] {
    const std::string n = std::to_string(++count);
    const std::string now = "2026-11-21 " + std::to_string(10 + count / 150) + ":00:00+00";
    const auto kind = random() % 10;
    if (kind == 0) {
      w.api.purchase("p" + n, 1 + static_cast<int64_t>(random() % 500));
    } else if (kind == 1) {
      EXPECT_TRUE(w.api.reserve("c" + n, 100).success);
    } else if (kind == 2 && !used.empty()) {
      auto at = used.begin();
      std::advance(at, random() % used.size());
      at->second = static_cast<int64_t>(random() % 60);
      w.correct("x" + n, at->first, at->second, now);
    } else {
      const std::string id = (kind % 2 == 0 ? "sms" : "calls") + n;
      used[id] = 1 + static_cast<int64_t>(random() % 60);
      w.use(id, kind % 2 == 0 ? "sms" : "calls", used[id], now);
    }
  };
  for (int i = 0; i < 400; ++i) step();
  const auto whole = w.page(0, 500);
  expect_adds_up(whole, w.balance());
  std::vector<Line> paged;
  for (int64_t before = 0;;) {
    const auto page = w.page(before, 7);
    if (page.empty()) break;
    paged.insert(paged.end(), page.begin(), page.end());
    before = page.back().place;
    for (int i = 0; i < 5; ++i) step();
  }
  EXPECT_EQ(paged, whole) << "what came later is on no later page, and nothing is twice or missing";

  const auto all = w.page(0, 500);
  expect_adds_up(all, w.balance());
  EXPECT_GT(all.size(), whole.size());
  std::map<std::string, int64_t> told, truth;
  for (const Line& line : all) {
    for (const auto& [meter, units] : line.units) told[meter] += units;
  }
  for (const auto& [id, units] : used) truth[id.substr(0, id.find_first_of("0123456789"))] += units;
  EXPECT_EQ(told["sms"], truth["sms"]);
  EXPECT_LE(std::abs(told["calls"] - truth["calls"]), 3) << "a correction of free units waits for the next charge";
  EXPECT_EQ(
      w.number("select count(*) from wallet_usage where tenant = $1 and kind = 'usage_correction'", {w.tenant}) > 0,
      true);
}

TEST(History, OfSeveralWalletsAreInOneOrder) {
  HistoryWorld w(1000);
  must(w.owner.exec("insert into wallets (tenant, currency) values ($1, 'USD')", {w.tenant}));  // of an earlier plan
  w.api.credit("dollars", 500, "USD");
  w.use("a", "sms", 2, kNow);
  w.api.credit("more", 500, "USD");
  const auto lines = w.page(0, 10);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_TRUE(
      std::is_sorted(lines.begin(), lines.end(), [](const auto& a, const auto& b) { return a.place > b.place; }));
  const auto dollars = must(w.api.session.exec(
      "select count(*), max(balance_after_micros) from wallet_transactions($1, 'USD', null, 10)", {w.tenant}));
  EXPECT_EQ(dollars.integer(0, 0), 2);
  EXPECT_EQ(dollars.integer(0, 1), 1000);
}

// Pages of the database read for a page deep in a long history.
TEST(History, APageCostsTheSameHoweverLongTheHistory) {
  HistoryWorld w(1000);
  must(w.owner.exec(
      "with made as (insert into ledger_transfers (kind, source, posted_at, tenant) select 'test', 'long/' || $1 || g, "
      "now(), $1 from generate_series(1, 30000) g returning id) insert into wallet_usage (id, tenant, currency, kind, "
      "hour, amount_micros, balance_after_micros, units, created_at, updated_at) select id, $1, 'GBP', "
      "'usage_correction', now(), 0, 0, '{\"sms\": 1}', now(), now() from made",
      {w.tenant}));
  must(w.owner.exec("analyze wallet_usage"));
  const int64_t middle =
      w.number("select id from wallet_usage where tenant = $1 order by id offset 15000 limit 1", {w.tenant});
  for (const std::string& before : {std::string("null"), std::to_string(middle)}) {
    const auto plan = must(w.owner.exec("explain (analyze, buffers, format json) select * from wallet_transactions('" +
                                        w.tenant + "', null, " + before + ", 50)"));
    const auto top = nlohmann::json::parse(plan.text(0, 0))[0]["Plan"];
    const auto blocks = top["Shared Hit Blocks"].get<int64_t>() + top["Shared Read Blocks"].get<int64_t>();
    std::printf("before %s: %ld blocks\n", before.c_str(), blocks);
    EXPECT_LT(blocks, 150) << top.dump(1);
  }
}

}  // namespace
}  // namespace tallygate::testing
