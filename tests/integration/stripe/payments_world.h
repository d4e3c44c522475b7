// The API with payments, workers, and the emulator as Stripe, which calls the API's webhook.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "operator/stripe/event_workers.h"
#include "operator/stripe/sweep.h"
#include "tests/integration/api/world.h"
#include "tests/integration/billing/stripe_emulator.h"
#include "tests/integration/stripe/events.h"
#include "tests/unit/stripe/signed.h"

namespace tallygate::testing {

class PaymentsWorld {
 public:
  using Json = nlohmann::json;

  static constexpr char kSecret[] = "whsec_emulator_0123456789";
  static stripe::PaymentSettings settings() {
    stripe::PaymentSettings settings;
    settings.webhook_secrets = {kSecret};
    settings.url_hosts = {"app.example"};
    settings.topups_per_day = 1'000;
    settings.first_day_max = 1'000'000'000'000;
    return settings;
  }

  explicit PaymentsWorld(stripe::PaymentSettings settings = PaymentsWorld::settings())
      : api(ApiWorld::Options{.payments = std::move(settings), .stripe_base = emulator.base()}) {
    stripe::EventWorkersOptions options;
    options.database_url = api.url;
    options.retry_base_ms = 10;
    options.poll_ms = 100;
    options.look_interval_ms = 200;
    workers = std::make_unique<stripe::EventWorkers>(system_env(), *api.stripe_client, options, *api.registry);
    workers->start();
    silence(false);
  }
  ~PaymentsWorld() { workers->stop(); }

  Answer begin(const std::string& amount, const std::string& key) {
    return api.post("/v1/wallet/topups",
                    R"({"amount":")" + amount + R"(","successUrl":"https://app.example/paid","cancelUrl":"https://app.example/"})", key);
  }
  Json act(const Json& what) { return emulator.act(what.dump()); }
  Json state() { return emulator.state(); }
  Json session(const std::string& id) {
    const Json all = state();
    for (const Json& one : all["sessions"]) {
      if (one["id"] == id) return one;
    }
    return {};
  }
  Json refund(const std::string& payment, int64_t minor) { return emulator.refund(payment, minor); }
  // Whether events go to no webhook.
  void silence(bool yes) {
    emulator.settings(R"({"webhook_url":")" + (yes ? "" : "http://127.0.0.1:" + std::to_string(api.server->port()) + "/v1/webhooks/stripe") +
                      "\"}");
  }
  void deliver(const std::string& id, const std::string& type, const std::string& object) {
    const std::string body = event_text(id, type, object, system_env().wall_s());
    EXPECT_EQ(api.send({.method = "POST",
                        .path = "/v1/webhooks/stripe",
                        .body = body,
                        .headers = {{"Stripe-Signature", stripe_signature(kSecret, system_env().wall_s(), body)}}})
                  .status,
              200);
  }
  void deliver_all_again() {
    Json ids = Json::array();
    const Json all = state();
    for (const Json& one : all["notices"]) ids.push_back(one["id"]);
    act({{"deliver", ids}});
  }
  void sweep() {
    stripe::SweepOptions options;
    options.database_url = api.url;
    options.behind_s = -5;
    metrics::Registry registry;
    stripe::Sweep sweep(system_env(), *api.stripe_client, options, registry);
    const auto mine = sweep.claim(600'000), again_mine = sweep.claim(600'000);
    EXPECT_TRUE(mine && *mine && again_mine && !*again_mine) << "one at a time";
    const auto found = sweep.sweep();
    EXPECT_TRUE(found) << found.error().message;
    const auto again = sweep.sweep();
    EXPECT_TRUE(again && *again == 0) << "what is found is found once";
  }
  // Every event that was delivered is done.
  bool settled() {
    for (int i = 0; i < 400; ++i) {
      const Json all = state();
      if (all["post_waiting"] == 0 && number("select count(*) from webhook_events where status in ('waiting', 'active', 'failed')") == 0)
        return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(25));
    }
    return false;
  }
  bool comes_to(int64_t micros, const std::string& tenant = "shop/acme") {
    for (int i = 0; i < 400 && balance(tenant) != micros; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(25));
    return balance(tenant) == micros;
  }
  int64_t balance(const std::string& tenant = "shop/acme") {
    return number("select coalesce(sum(balance_micros), 0) from wallets where tenant = '" + tenant + "'");
  }
  int64_t number(const std::string& sql) { return api.number(sql); }
  void audit() { EXPECT_EQ(number("select count(*) from ledger_audit()"), 0); }

  // One for the binary: each world begins with an account that is empty.
  static StripeEmulator& shared_emulator() {
    static StripeEmulator emulator;
    emulator.reset();
    return emulator;
  }

  StripeEmulator& emulator = shared_emulator();
  ApiWorld api;
  std::unique_ptr<stripe::EventWorkers> workers;
};

}  // namespace tallygate::testing
