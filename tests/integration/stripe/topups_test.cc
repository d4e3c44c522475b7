// A customer pays: from the API to Stripe's page (the emulator's), by the webhook back into the wallet, on a real PostgreSQL.
#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/integration/stripe/payments_world.h"

namespace tallygate::testing {
namespace {

using Json = nlohmann::json;

std::string body_of(const std::string& amount, const std::string& more = "") {
  return R"({"amount":")" + amount + R"(","successUrl":"https://app.example/paid?s={CHECKOUT_SESSION_ID}",)" +
         R"("cancelUrl":"https://app.example/cancelled")" + more + "}";
}

TEST(TopUp, TheKnownCase) {
  PaymentsWorld world;
  world.api.credit("shop/acme", 569'000'000);
  const Answer made = world.begin("50.00", "k1");
  ASSERT_EQ(made.status, 201) << made.body;
  EXPECT_EQ(made.member("state"), "open");
  EXPECT_EQ(made.member("duplicate"), "false");
  EXPECT_EQ(made.member("amount"), "50.00");
  EXPECT_TRUE(made.member("url").starts_with("https://checkout.stripe.com/")) << made.body;
  EXPECT_EQ(world.balance(), 569'000'000) << "nothing before it is paid";
  world.act({{"session", made.member("sessionId")}, {"does", "pay"}});
  EXPECT_TRUE(world.comes_to(619'000'000)) << world.balance();
  EXPECT_EQ(world.api.get("/v1/wallet").member("balance"), "619.00");
  EXPECT_EQ(world.api.get("/v1/wallet/topups/" + made.member("id")).member("state"), "paid");
  EXPECT_EQ(world.number("select count(*) from webhook_events where status <> 'completed'"), 0);
  world.audit();

  // All of it again, in any number.
  world.deliver_all_again();
  world.deliver_all_again();
  EXPECT_TRUE(world.settled());
  EXPECT_EQ(world.balance(), 619'000'000);
  EXPECT_EQ(world.api.metric("tallygate_operator_webhook_received_total{result=\"unsigned\"}"), 0);
}

TEST(TopUp, IsOneSessionWhoeverAsksForItHoweverOften) {
  PaymentsWorld world;
  std::atomic<int> opened = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < 16; ++i) {
    callers.emplace_back([&, i] {
      for (int attempt = 0; attempt < 40; ++attempt) {
        const Answer answer = world.begin("20.00", "tab-" + std::to_string(i % 8));
        if (answer.status == 201) ++opened;
        if (answer.status == 201) return;
        EXPECT_EQ(answer.status, 503) << answer.body;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(opened, 16);
  EXPECT_EQ(world.state()["sessions"].size(), 1u);
  EXPECT_EQ(world.state()["customers"].size(), 1u);
  EXPECT_EQ(world.number("select count(*) from wallet_topups"), 1);
}

TEST(TopUp, OfAnotherAmountClosesTheFirst) {
  PaymentsWorld world;
  const Answer first = world.begin("20.00", "k1"), second = world.begin("30.00", "k2");
  ASSERT_EQ(second.status, 201) << second.body;
  EXPECT_NE(first.member("sessionId"), second.member("sessionId"));
  EXPECT_EQ(world.session(first.member("sessionId"))["status"], "expired");
  EXPECT_EQ(world.api.get("/v1/wallet/topups/" + first.member("id")).member("state"), "expired");
  const Answer again = world.begin("20.00", "k1");
  EXPECT_EQ(again.member("id"), first.member("id")) << "its key means that top-up for ever";
  EXPECT_EQ(again.member("state"), "expired");
  const Answer other = world.begin("21.00", "k1");
  EXPECT_EQ(other.status, 422);
  EXPECT_EQ(other.member("reason"), "IdempotencyMismatch");
}

TEST(TopUp, OfAnotherAmountClosesTheFirstThoughStripeFailsAtIt) {
  for (const char* kind : {"500_before", "500_after", "reset_after"}) {
    SCOPED_TRACE(kind);
    PaymentsWorld world;
    const Answer first = world.begin("20.00", "k1");
    world.emulator.fault(std::string(R"({"kind":")") + kind + R"(","count":4,"path":"/expire"})");
    Answer second;
    for (int i = 0; i < 20 && second.status != 201; ++i) second = world.begin("30.00", "k2");
    EXPECT_EQ(second.status, 201) << second.body;
    EXPECT_EQ(world.session(first.member("sessionId"))["status"], "expired");
    EXPECT_EQ(world.session(second.member("sessionId"))["status"], "open");
  }
}

TEST(TopUp, ThatIsPaidWhileAnotherIsBegunIsCreditedToo) {
  PaymentsWorld world;
  const Answer first = world.begin("20.00", "k1");
  world.silence(true);
  world.act({{"session", first.member("sessionId")}, {"does", "pay"}});
  const Answer second = world.begin("30.00", "k2");
  ASSERT_EQ(second.status, 201) << second.body;
  world.silence(false);
  world.deliver_all_again();
  EXPECT_TRUE(world.comes_to(20'000'000));
  world.act({{"session", second.member("sessionId")}, {"does", "pay"}});
  EXPECT_TRUE(world.comes_to(50'000'000));
  world.audit();
}

// Nobody knows what Stripe did; then it is asked once more, in the same words and under the same key.
TEST(TopUp, OutlivesLostAnswersOfStripe) {
  for (const char* path : {"customers", "checkout"}) {
    for (const char* kind : {"reset_before", "reset_after", "500_before", "500_after"}) {
      SCOPED_TRACE(std::string(path) + " " + kind);
      PaymentsWorld world;
      world.emulator.fault(std::string(R"({"kind":")") + kind + R"(","count":4,"path":")" + path + R"("})");
      Answer answer;
      for (int i = 0; i < 20 && answer.status != 201; ++i) {
        answer = world.begin("20.00", "k1");
        EXPECT_TRUE(answer.status == 201 || answer.status == 503) << answer.body;
      }
      ASSERT_EQ(answer.status, 201) << answer.body;
      EXPECT_EQ(world.state()["customers"].size(), 1u);
      EXPECT_EQ(world.number("select count(*) from wallet_topups"), 1);
      // Stripe repeats a 500 under its key for a day: then there is a second session, and nobody has the first one's URL.
      const size_t sessions = world.state()["sessions"].size();
      EXPECT_TRUE(sessions == 1 || std::string(kind).starts_with("500")) << sessions;
      EXPECT_EQ(world.session(answer.member("sessionId"))["status"], "open");
    }
  }
}

TEST(TopUp, ThatAHundredEventsTellOfToThreeOperatorsIsOneCredit) {
  PaymentsWorld world;
  const Answer made = world.begin("20.00", "k1");
  world.silence(true);
  const Json paid = world.act({{"session", made.member("sessionId")}, {"does", "pay"}});
  world.workers->stop();
  for (int i = 0; i < 100; ++i) {
    world.deliver("evt_" + std::to_string(i), i % 2 == 0 ? "checkout.session.completed" : "checkout.session.async_payment_succeeded", paid.dump());
  }
  metrics::Registry registry;
  std::vector<std::unique_ptr<stripe::EventWorkers>> operators;
  for (int i = 0; i < 3; ++i) {
    stripe::EventWorkersOptions options;
    options.database_url = world.api.url;
    options.workers = 12;
    operators.push_back(std::make_unique<stripe::EventWorkers>(system_env(), *world.api.stripe_client, options, registry));
  }
  for (auto& one : operators) one->start();
  EXPECT_TRUE(world.settled());
  for (auto& one : operators) one->stop();
  EXPECT_EQ(world.balance(), 20'000'000);
  EXPECT_EQ(world.number("select count(*) from webhook_events where result = 'credited'"), 1);
  EXPECT_EQ(world.number("select count(*) from credit_transactions where kind = 'credit'"), 1);
  world.audit();
}

TEST(TopUp, InAnotherCurrencyByAQuote) {
  PaymentsWorld world;
  const Answer quote = world.api.post("/v1/quotes", R"({"from":"USD","to":"GBP","amount":"100.00"})", "q1");
  ASSERT_EQ(quote.status, 201);
  const Answer made = world.api.post("/v1/wallet/topups", body_of("100.00", R"(,"quoteId":")" + quote.member("id") + "\""), "k1");
  ASSERT_EQ(made.status, 201) << made.body;
  const Json answer = Json::parse(made.body);
  EXPECT_EQ(answer["amount"], "79.00");
  EXPECT_EQ(answer["currency"], "GBP");
  EXPECT_EQ(answer["pay"], (Json{{"amount", "100.00"}, {"currency", "USD"}}));
  const Json session = world.session(made.member("sessionId"));
  EXPECT_EQ(session["currency"], "usd");
  EXPECT_EQ(session["amount_total"], 10'000);
  world.act({{"session", made.member("sessionId")}, {"does", "pay"}});
  EXPECT_TRUE(world.comes_to(79'000'000));
  const Answer history = world.api.get("/v1/wallet/transactions");
  EXPECT_NE(history.body.find(quote.member("id")), std::string::npos) << history.body;
}

TEST(TopUp, BySlowMeansIsCreditedWhenItIsPaid) {
  PaymentsWorld world;
  const Answer good = world.begin("20.00", "k1");
  world.act({{"session", good.member("sessionId")}, {"does", "pay_later"}});
  EXPECT_TRUE(world.settled());
  EXPECT_EQ(world.balance(), 0);
  EXPECT_EQ(world.api.get("/v1/wallet/topups/" + good.member("id")).member("state"), "processing");
  world.act({{"session", good.member("sessionId")}, {"does", "succeed"}});
  EXPECT_TRUE(world.comes_to(20'000'000));

  const Answer bad = world.begin("25.00", "k2");
  world.act({{"session", bad.member("sessionId")}, {"does", "pay_later"}});
  world.act({{"session", bad.member("sessionId")}, {"does", "fail"}});
  EXPECT_TRUE(world.settled());
  EXPECT_EQ(world.api.get("/v1/wallet/topups/" + bad.member("id")).member("state"), "failed");
  EXPECT_EQ(world.balance(), 20'000'000);
}

TEST(TopUp, CreditsWhatWasBoughtWhateverTaxAndCouponsSay) {
  PaymentsWorld world;
  const Answer made = world.begin("20.00", "k1");
  world.act({{"session", made.member("sessionId")}, {"does", "pay"}, {"tax", 400}, {"discount", 100}});
  EXPECT_TRUE(world.comes_to(20'000'000));
}

TEST(TopUp, OnlyWhatThisLedgerOpenedCreditsAnything) {
  PaymentsWorld world;
  const Answer mine = world.begin("20.00", "k1");
  const Json session = world.session(mine.member("sessionId"));
  for (const char* id : {"cs_test_somebody_elses", "", "cs_test_' or true--"}) {
    Json forged = session;
    forged["id"] = id;
    forged["payment_status"] = "paid";
    forged["status"] = "complete";
    world.deliver("evt_" + std::to_string(std::hash<std::string>{}(id)), "checkout.session.completed", forged.dump());
  }
  world.deliver("evt_pi", "payment_intent.succeeded", Json{{"id", "pi_1"}, {"amount", 2000}, {"metadata", session["metadata"]}}.dump());
  world.deliver("evt_ch", "charge.succeeded", Json{{"id", "ch_1"}, {"amount", 2000}, {"metadata", session["metadata"]}}.dump());
  EXPECT_TRUE(world.settled());
  EXPECT_EQ(world.balance(), 0);
  EXPECT_EQ(world.number("select count(*) from webhook_events where result in ('foreign', 'ignored')"), 5);
}

TEST(TopUp, CapsAttemptsAndTheFirstDay) {
  stripe::PaymentSettings settings = PaymentsWorld::settings();
  settings.topups_per_day = 3;
  settings.first_day_max = 100'000'000;
  PaymentsWorld world(settings);
  EXPECT_EQ(world.begin("100.01", "k0").status, 422);
  for (const char* amount : {"10.00", "11.00", "12.00"}) EXPECT_EQ(world.begin(amount, amount).status, 201);
  const Answer refused = world.begin("13.00", "k4");
  EXPECT_EQ(refused.status, 429) << refused.body;
  EXPECT_EQ(refused.member("reason"), "TopUpLimit");
  EXPECT_EQ(world.api.send({.method = "POST", .path = "/v1/wallet/topups", .body = body_of("10.00"), .token = kGlobexToken, .key = "k"}).status,
            201)
      << "another tenant is another tenant";
  const Answer last = world.api.post("/v1/wallet/topups", body_of("12.00"), "again");
  EXPECT_EQ(last.status, 201) << "what was refused has closed nothing";
  EXPECT_EQ(last.member("duplicate"), "true");
}

TEST(Portal, IsStripesPageOfTheTenantsOneCustomer) {
  PaymentsWorld world;
  const Answer page = world.api.post("/v1/portal/sessions", R"({"returnUrl":"https://app.example/wallet"})");
  ASSERT_EQ(page.status, 201) << page.body;
  EXPECT_TRUE(page.member("url").starts_with("https://billing.stripe.com/")) << page.body;
  EXPECT_EQ(world.begin("20.00", "k1").status, 201);
  EXPECT_EQ(world.state()["customers"].size(), 1u);
  for (const char* bad : {"http://app.example/", "https://evil.example/", ""}) {
    const Answer refused = world.api.post("/v1/portal/sessions", std::string(R"({"returnUrl":")") + bad + "\"}");
    EXPECT_EQ(refused.status, 422) << bad;
    EXPECT_NE(refused.body.find("returnUrl"), std::string::npos) << refused.body;
  }
}

struct Bad {
  std::string name, body, says;
  int status = 422;
};

TEST(TopUp, BadRequestsAreRefusedWithTheirFieldAndNothingIsWritten) {
  PaymentsWorld world;
  const auto url = [](const std::string& success) {
    return R"({"amount":"20.00","successUrl":")" + success + R"(","cancelUrl":"https://app.example/"})";
  };
  std::vector<Bad> rows = {{"no body", "", "MalformedJson", 400},
                           {"no amount", R"({"successUrl":"https://app.example/","cancelUrl":"https://app.example/"})", "amount"},
                           {"no URLs", R"({"amount":"20.00"})", "successUrl"},
                           {"a member too many", body_of("20.00", R"(,"metadata":{})"), "metadata"},
                           {"a quote that is none", body_of("20.00", R"(,"quoteId":"qt_00000000000000000000000000000000")"), "quoteId"},
                           {"a currency of no wallet of its own", body_of("20.00", R"(,"currency":"EUR")"), "currency"},
                           {"a currency that is none", body_of("20.00", R"(,"currency":"pounds")"), "currency"}};
  for (const char* amount : {"0", "0.29", "-1", "0.001", "20.001", "1000000", "999999.999", "1e3", "", "NaN", "20,00"}) {
    rows.push_back({std::string("the amount ") + amount, body_of(amount), "amount"});
  }
  for (const char* amount : {"50.5", "49", "100000000"}) {
    rows.push_back({std::string("yen: ") + amount, body_of(amount, R"(,"currency":"JPY")"), "amount"});
  }
  rows.push_back({"dinars to the last digit", body_of("1.001", R"(,"currency":"KWD")"), "amount"});
  for (const char* bad :
       {"http://app.example/", "https://evil.example/", "https://app.example.evil.example/", "https://app.example@evil.example/",
        "https://evil.example/?https://app.example/", "https://evil.example#https://app.example/", "//app.example/", "app.example",
        "https:/app.example/", "https:///app.example/", "HTTPS//app.example", "ftp://app.example/", "https://app.example:8443/",
        "https://app.example:443/", "https://user@app.example/", "https://user:secret@app.example/", "https://app.example./",
        "https://.app.example/", "https://app.example%2eevil.example/", "https://app.example /", "https://app.example/a b",
        "https://app.example\\\\@evil.example/", "https://app.example/#fragment", "https://app.example/{ID}", "javascript:alert(1)",
        "data:text/html,hi", "https://", "https://[::1]/", "https://127.0.0.1/", "https://xn--pp-example/", "https://{CHECKOUT_SESSION_ID}/",
        "https://app.example{CHECKOUT_SESSION_ID}/", "https://app.\\u0435xample/", "https://sub.app.example/"}) {
    rows.push_back({std::string("the URL ") + bad, url(bad), "successUrl"});
  }
  rows.push_back({"a URL without end", url("https://app.example/" + std::string(2048, 'x')), "successUrl"});
  ASSERT_GE(rows.size(), 50u);
  for (const Bad& row : rows) {
    const Answer answer = world.api.post("/v1/wallet/topups", row.body, "k");
    EXPECT_EQ(answer.status, row.status) << row.name << ": " << answer.body;
    EXPECT_NE(answer.body.find(row.says), std::string::npos) << row.name << ": " << answer.body;
  }
  for (const char* good : {"https://app.example/", "https://APP.example/done?x=1&y=%20", "https://app.example"}) {
    EXPECT_EQ(world.api.post("/v1/wallet/topups", url(good), std::string("k ") + good).status, 422) << "a key has no spaces";
  }
  EXPECT_EQ(world.number("select count(*) from wallet_topups"), 0);
  EXPECT_EQ(world.state()["sessions"].size(), 0u);
  for (const char* good : {"https://app.example/", "https://APP.example/done?x=1&y=%20", "https://app.example"}) {
    EXPECT_EQ(world.api.post("/v1/wallet/topups", url(good), std::string("k-") + good).status, 201) << good;
  }
  EXPECT_EQ(world.api.send({.method = "POST", .path = "/v1/wallet/topups", .body = body_of("20.00"), .token = kReadToken, .key = "k"}).status, 403);
  EXPECT_EQ(world.api.post("/v1/wallet/topups", body_of("20.00")).status, 422) << "without a key";
}

TEST(TopUp, OfManyTenantsShuffledDoubledAndLostEndAsInOrder) {
  PaymentsWorld world;
  world.emulator.settings(R"({"webhook_lose":0.2,"webhook_double":0.3,"webhook_shuffle":12,"webhook_version":"2020-08-27"})");
  std::map<std::string, int64_t> expected;
  for (int i = 0; i < 24; ++i) {
    const std::string tenant = i % 2 == 0 ? "shop/acme" : "shop/globex";
    const int64_t pounds = 10 + i;
    const Answer made = world.api.send({.method = "POST",
                                        .path = "/v1/wallet/topups",
                                        .body = body_of(std::to_string(pounds) + ".00"),
                                        .token = i % 2 == 0 ? kAcmeToken : kGlobexToken,
                                        .key = "k" + std::to_string(i)});
    ASSERT_EQ(made.status, 201) << made.body;
    const std::string session = made.member("sessionId");
    if (i % 4 == 3) {
      world.act({{"session", session}, {"does", "pay_later"}});
      world.act({{"session", session}, {"does", "succeed"}});
    } else {
      world.act({{"session", session}, {"does", "pay"}});
    }
    int64_t left = pounds * 1'000'000;
    const std::string payment = world.session(session)["payment_intent"];
    if (i % 3 == 0) {
      const Json refund = world.refund(payment, 500);
      if (i % 6 == 0) world.act({{"refund", refund["id"]}, {"does", "fail"}});
      if (i % 6 != 0) left -= 5'000'000;
    } else if (i % 5 == 0) {
      const Json dispute = world.act({{"payment_intent", payment}, {"does", "dispute"}});
      const bool won = i % 2 == 0;
      world.act({{"dispute", dispute["id"]}, {"does", won ? "win" : "lose"}});
      if (!won) left = 0;
    }
    expected[tenant] += left;
  }
  world.act({{"flush", true}});
  EXPECT_TRUE(world.settled());
  world.sweep();
  EXPECT_TRUE(world.settled());
  for (const auto& [tenant, micros] : expected) EXPECT_TRUE(world.comes_to(micros, tenant)) << tenant << ": " << world.balance(tenant);
  EXPECT_EQ(world.number("select count(*) from webhook_events where status = 'dead' or faults > 0"), 0);
  EXPECT_GT(world.number("select count(*) from webhook_events where found_by = 'sweep'"), 0);
  world.audit();
}

}  // namespace
}  // namespace tallygate::testing
