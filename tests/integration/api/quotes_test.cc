// Money in another currency: quotes, what is charged at them, and the wallet shown in a second currency.
#include <set>

#include "tests/integration/api/world.h"

namespace tallygate::testing {
namespace {

class ApiQuotes : public ::testing::Test {
 protected:
  ApiQuotes() { world.credit("shop/acme", 10'000'000); }

  Answer quote(const std::string& body, const std::string& key = "") {
    return world.post("/v1/quotes", body, key.empty() ? "quote-" + std::to_string(++keys_) : key);
  }
  std::string usd_quote() {
    const Answer made = quote(R"({"from":"USD"})");
    EXPECT_EQ(made.status, 201) << made.body;
    return made.member("id");
  }
  void expire(const std::string& id) {
    world.number(
        "alter table quotes disable trigger user; update quotes set expires_at = now() - interval '1 second' "
        "where id = '" +
        id + "' returning 1");
  }
  static std::string asking(const char* name, const std::string& amount, const std::string& quote_id,
                            const std::string& more = "") {
    return std::string("{\"") + name + "\":\"" + amount + R"(","quoteId":")" + quote_id + "\"" + more + "}";
  }
  std::string balance() { return world.get("/v1/wallet").member("balance"); }

  ApiWorld world;

 private:
  int keys_ = 0;
};

TEST_F(ApiQuotes, KeepTheirRateAndTheirExpiry) {
  const Answer made = quote(R"({"from":"USD","amount":"1.00"})", "k");
  ASSERT_EQ(made.status, 201) << made.body;
  EXPECT_EQ(made.member("from"), "USD");
  EXPECT_EQ(made.member("to"), "GBP") << "the tenant's only wallet";
  EXPECT_EQ(made.member("rate"), "0.79");
  EXPECT_EQ(made.member("amount"), "1.00");
  EXPECT_EQ(made.member("converted"), "0.79");
  EXPECT_EQ(world.number("select extract(epoch from expires_at - created_at)::bigint from quotes"), 900);
  const Answer again = quote(R"({"amount":"1.00","from":"USD"})", "k");
  EXPECT_EQ(again.status, 201);
  EXPECT_TRUE(again.replayed());
  EXPECT_EQ(again.member("id"), made.member("id"));
  EXPECT_EQ(quote(R"({"from":"USD","amount":"2.00"})", "k").status, 422);
  const Answer read = world.get("/v1/quotes/" + made.member("id"));
  EXPECT_EQ(read.status, 200);
  EXPECT_EQ(read.member("expiresAt"), made.member("expiresAt"));
  const Answer others = world.send({.path = "/v1/quotes/" + made.member("id"), .token = kGlobexToken});
  EXPECT_EQ(others.status, 404) << "another tenant's quote does not exist";
  EXPECT_EQ(world.get("/v1/quotes/qt_nothing").status, 404);
}

TEST_F(ApiQuotes, OfCurrenciesWithoutDecimalsAndWithThree) {
  const Answer yen = quote(R"({"from":"USD","to":"JPY","amount":"1.00"})");
  EXPECT_EQ(yen.member("converted"), "149.53");
  const Answer dollars = quote(R"({"from":"JPY","to":"USD","amount":"1000"})");
  EXPECT_EQ(dollars.member("rate"), "0.006687621213") << "the opposite of what is configured";
  EXPECT_EQ(dollars.member("amount"), "1000");
  EXPECT_EQ(dollars.member("converted"), "6.687621");
  const Answer dinars = quote(R"({"from":"GBP","to":"KWD","amount":"10"})");
  EXPECT_EQ(dinars.member("converted"), "3.887");
}

TEST_F(ApiQuotes, WithoutARateAreRefused) {
  for (const char* body : {R"({"from":"EUR"})", R"({"from":"GBP"})", R"({"from":"usd"})", R"({"to":"GBP"})",
                           R"({"from":"USD","amount":"0"})", R"({"from":"USD","amount":"1.0000001"})"}) {
    const Answer refused = quote(body);
    EXPECT_EQ(refused.status, 422) << body;
    EXPECT_NE(refused.body.find("\"field\""), std::string::npos) << refused.body;
  }
  EXPECT_EQ(world.number("select count(*) from quotes"), 0);
}

TEST_F(ApiQuotes, ADeductionIsConvertedOnceByTheQuotesRate) {
  const std::string id = usd_quote();
  const Answer paid = world.post("/v1/deductions", asking("amount", "1.00", id, R"(,"currency":"USD")"), "buy");
  ASSERT_EQ(paid.status, 201) << paid.body;
  EXPECT_NE(paid.body.find(R"("amount":"0.79","quoted":{"quoteId":")" + id +
                           R"(","currency":"USD","amount":"1.00","rate":"0.79"})"),
            std::string::npos)
      << paid.body;
  EXPECT_EQ(balance(), "9.21");
  EXPECT_TRUE(world.post("/v1/deductions", asking("amount", "1.00", id, R"(,"currency":"USD")"), "buy").replayed());
  EXPECT_EQ(world.metric("tallygate_operator_quotes_used_total"), 1);
  EXPECT_EQ(world.metric("tallygate_operator_quotes_made_total"), 1);
  const Answer history = world.get("/v1/wallet/transactions?limit=1");
  EXPECT_NE(history.body.find(R"("currency":"USD","amount":"1.00","rate":"0.79")"), std::string::npos) << history.body;
  EXPECT_EQ(
      world.number("select q.amount_micros from quoted_amounts q join credit_transactions t on t.id = q.transaction "
                   "where t.amount_micros = -790000"),
      1'000'000);
  // 0.000005 × 0.79 = 0.00000395.
  EXPECT_EQ(world.post("/v1/deductions", asking("amount", "0.000005", id), "small").member("amount"), "0.000004");
  for (const auto& [body, field] : std::vector<std::pair<std::string, std::string>>{
           {asking("amount", "1.00", id, R"(,"currency":"GBP")"), "currency"},
           {asking("amount", "1.00", "qt_none"), "quoteId"},
           {asking("amount", "0.000000", id), "amount"}}) {
    const Answer refused = world.post("/v1/deductions", body, "refused");
    EXPECT_EQ(refused.status, 422) << body;
    EXPECT_NE(refused.body.find("\"field\":\"" + field + "\""), std::string::npos) << refused.body;
  }
  const Answer others = world.send({.method = "POST",
                                    .path = "/v1/deductions",
                                    .body = asking("amount", "1.00", id),
                                    .token = kGlobexToken,
                                    .key = "other"});
  EXPECT_EQ(others.status, 422);
  EXPECT_NE(others.body.find("is no quote of this tenant"), std::string::npos);
}

TEST_F(ApiQuotes, ThatAreExpiredHoldForWhatWasBegunUnderThem) {
  const std::string id = usd_quote();
  const std::string reserve = asking("amount", "2.00", id, R"(,"callId":"c1")");
  ASSERT_EQ(world.post("/v1/reservations", reserve, "r1").status, 201);
  ASSERT_EQ(world.post("/v1/reservations", R"({"callId":"c2","amount":"1.00"})", "r2").status, 201);
  ASSERT_EQ(world.post("/v1/deductions", asking("amount", "1.00", id), "buy").status, 201);
  expire(id);
  const Answer late = world.post("/v1/deductions", asking("amount", "1.00", id), "late");
  EXPECT_EQ(late.status, 422);
  EXPECT_NE(late.body.find("has expired at 2"), std::string::npos) << late.body;
  EXPECT_EQ(world.post("/v1/reservations", asking("amount", "2.00", id, R"(,"callId":"c3")"), "r3").status, 422);
  EXPECT_EQ(world.post("/v1/reservations/c2/commit", asking("cost", "1.00", id), "m2").status, 422)
      << "was not reserved under it";
  // What was done in time is answered again.
  EXPECT_TRUE(world.post("/v1/deductions", asking("amount", "1.00", id), "buy").replayed());
  EXPECT_TRUE(world.post("/v1/reservations", reserve, "r1").replayed());
  const Answer committed = world.post("/v1/reservations/c1/commit", asking("cost", "1.50", id), "m1");
  ASSERT_EQ(committed.status, 200) << committed.body;
  EXPECT_EQ(committed.member("committed"), "1.185");
  EXPECT_EQ(committed.member("released"), "0.395");
  EXPECT_NE(committed.body.find(R"("currency":"USD","amount":"1.50","rate":"0.79")"), std::string::npos);
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

TEST_F(ApiQuotes, ReservationsTellWhatTheyWereAskedFor) {
  const std::string held = usd_quote(), paid = usd_quote();
  ASSERT_EQ(world.post("/v1/reservations", asking("amount", "2.00", held, R"(,"callId":"c1")"), "r1").status, 201);
  ASSERT_EQ(world.post("/v1/reservations", R"({"callId":"c2","amount":"1.00"})", "r2").status, 201);
  const std::string hold = R"("amount":"1.58","quoted":{"quoteId":")" + held +
                           R"(","currency":"USD","amount":"2.00","rate":"0.79"},"committed":"0.00","expiresAt")";
  EXPECT_NE(world.get("/v1/reservations/c1").body.find(hold), std::string::npos);
  const Answer plain = world.get("/v1/reservations/c2");
  EXPECT_EQ(plain.body.find("quoted"), std::string::npos) << plain.body;
  ASSERT_EQ(world.post("/v1/reservations/c1/commit", asking("cost", "1.50", paid), "m1").status, 200);
  const std::string cost = R"("committed":"1.185","quotedCost":{"quoteId":")" + paid +
                           R"(","currency":"USD","amount":"1.50","rate":"0.79"},"expiresAt")";
  for (const char* path : {"/v1/reservations/c1", "/v1/reservations"}) {
    const Answer read = world.get(path);
    EXPECT_NE(read.body.find(cost), std::string::npos) << read.body;
    EXPECT_NE(read.body.find(R"("quoted":{"quoteId":")" + held), std::string::npos) << read.body;
  }
  const Answer page = world.get("/v1/reservations?limit=1");
  EXPECT_EQ(page.member("callId"), "c2") << "newest first";
  EXPECT_EQ(world.get("/v1/reservations?limit=1&cursor=" + page.member("nextCursor")).member("callId"), "c1");
}

TEST_F(ApiQuotes, OneKeySentAtOnceMakesOneQuote) {
  std::vector<std::unique_ptr<ApiClient>> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(std::make_unique<ApiClient>(world.server->port()));
  for (auto& client : clients) {
    client->start(
        {.method = "POST", .path = "/v1/quotes", .body = R"({"from":"USD"})", .token = kAcmeToken, .key = "same"});
  }
  std::set<std::string> ids;
  for (auto& client : clients) ids.insert(client->finish().member("id"));
  EXPECT_EQ(ids.size(), 1u);
  EXPECT_EQ(world.number("select count(*) from quotes"), 1);
}

TEST_F(ApiQuotes, TheWalletIsShownInASecondCurrency) {
  ASSERT_EQ(world.post("/v1/reservations", R"({"callId":"c","amount":"1.00"})", "r").status, 201);
  const Answer dollars = world.get("/v1/wallet?in=USD");
  ASSERT_EQ(dollars.status, 200) << dollars.body;
  EXPECT_NE(dollars.body.find(R"("in":{"rate":"1.26582278481","currency":"USD","balance":"12.66","reserved":"1.27",)"
                              R"("float":"0.00","effective":"11.39","debtLimit":"6.33"})"),
            std::string::npos)
      << dollars.body;
  EXPECT_EQ(dollars.member("balance"), "10.00");
  EXPECT_NE(world.get("/v1/wallet?in=KWD").body.find(R"("balance":"3.887")"), std::string::npos);
  EXPECT_EQ(world.get("/v1/wallet?in=EUR").status, 422);
  EXPECT_EQ(world.get("/v1/wallet?in=dollars").status, 422);
  EXPECT_NE(world.get("/v1/wallet?in=GBP").body.find("must differ from the wallet's own"), std::string::npos);
}

}  // namespace
}  // namespace tallygate::testing
