#include "operator/stripe/settings.h"

#include <algorithm>

#include "core/ids.h"

namespace tallygate::stripe {
namespace {

constexpr size_t kSecretMin = 14, kSecretMax = 255;

// Never quotes its input: what is no such secret may be another one.
config::Parser<std::string> webhook_secret() {
  const auto parse = [](std::string_view in) -> config::Parsed<std::string> {
    const bool clean = std::all_of(in.begin(), in.end(), [](char c) { return c > ' ' && c < '\x7f' && c != ','; });
    if (!in.starts_with("whsec_") || !clean || in.size() < kSecretMin || in.size() > kSecretMax) {
      return config::refuse("it is no secret of a webhook endpoint",
                            "use the endpoint's signing secret, whsec_…; while it is rolled, both, with a comma between");
    }
    return std::string(in);
  };
  return {parse, "SECRET"};
}

config::Parser<std::string> url_host() {
  const auto parse = [](std::string_view in) -> config::Parsed<std::string> {
    if (in.size() <= 253 && is_dns_subdomain(in)) return std::string(in);
    return config::refuse(config::quoted(in) + " is no host", "write a name in lower case, without scheme and port: app.example.com");
  };
  return {parse, "HOST"};
}

config::Parser<Micros> money() {
  const auto parse = [](std::string_view in) -> config::Parsed<Micros> {
    const auto micros = parse_money(in);
    if (micros && *micros > 0) return *micros;
    return config::refuse(config::quoted(in) + " is no amount", "write a decimal above 0, such as 1000.00");
  };
  return {parse, "DECIMAL"};
}

}  // namespace

void declare_payments(config::OptionSet& options, PaymentSettings& s) {
  options.add("stripe-webhook-secret", &s.webhook_secrets, config::list_of(webhook_secret()))
      .env("STRIPE_WEBHOOK_SECRET")
      .secret()
      .help("signing secrets of the endpoint at Stripe that calls /v1/webhooks/stripe; only from the environment or a file");
  options.add("stripe-webhook-workers", &s.webhook_workers, config::integer(1, 64))
      .env()
      .fallback("5")
      .help("how many of Stripe's events are worked on at once, by this operator");
  options.add("stripe-suspend-on-dispute", &s.suspend_on_dispute, config::boolean())
      .env()
      .fallback("true")
      .help("suspend a wallet while a dispute has taken back what was paid into it");
  options.add("stripe-sweep-interval", &s.sweep_interval_ms, config::duration_ms(10'000, 600'000))
      .env()
      .fallback("2m")
      .help("how often Stripe's list is looked through for events that did not come");
  options.add("checkout-url-hosts", &s.url_hosts, config::list_of(url_host()))
      .env()
      .help("hosts of the https URLs that customers may come back to from Stripe's pages; without one nobody can top up");
  options.add("topups-per-day", &s.topups_per_day, config::integer(1, 1'000))
      .env()
      .fallback("20")
      .help("payments that a tenant may begin in 24 hours");
  options.add("topup-first-day-max", &s.first_day_max, money())
      .env()
      .fallback("1000.00")
      .help("most that a tenant may pay in until a day after its first payment, in the currency that it pays in");
}

}  // namespace tallygate::stripe
