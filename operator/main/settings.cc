#include "operator/main/settings.h"

#include <sys/stat.h>

#include <algorithm>

#include "core/api_key.h"
#include "core/ids.h"
#include "operator/kube/config.h"
#include "operator/publish/publication_keys.h"
#include "operator/stripe/version.h"

namespace tallygate::operator_main {
namespace {

using config::OptionSet;
using config::Refusal;

constexpr int64_t kDayMs = int64_t{24} * 3600 * 1000;

// Never quotes its input: what is no key may be another secret.
config::Parser<std::string> stripe_key() {
  const auto parse = [](std::string_view in) -> config::Parsed<std::string> {
    const bool known = in.starts_with("sk_") || in.starts_with("rk_");
    const bool clean = std::all_of(in.begin(), in.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    });
    if (!known || !clean || in.size() < 10 || in.size() > 255) {
      return config::refuse("it is no secret key of Stripe",
                            "use a secret or restricted key, sk_… or rk_…, of letters, digits and underscores");
    }
    return std::string(in);
  };
  return {parse, "KEY"};
}

config::Parser<std::string> stripe_version() {
  const auto parse = [](std::string_view in) -> config::Parsed<std::string> {
    const bool clean = std::all_of(in.begin(), in.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
    });
    if (in.size() < 10 || in.size() > 40 || !clean || in[4] != '-' || in[7] != '-') {
      return config::refuse(config::quoted(in) + " is no version of Stripe's API",
                            "write a version such as 2025-06-30.basil");
    }
    return std::string(in);
  };
  return {parse, "VERSION"};
}

std::optional<Refusal> check_redis(const config::Url& url, bool insecure, const std::string& ca_file,
                                   redis::Endpoint& out) {
  auto endpoint = redis::parse_url(url.text);
  if (!endpoint) return Refusal{endpoint.error().message, "write redis://[user@]host[:port][/db]"};
  if (!insecure && endpoint->is_plain_off_this_machine()) return Refusal{redis::kPlainProblem, redis::kPlainFix};
  out = std::move(*endpoint);
  out.ca_file = ca_file;
  return std::nullopt;
}

template <class Settings>
void declare_redis(OptionSet& options, Settings& s) {
  options.add("redis-url", &s.redis_url, config::url({"redis", "rediss", "unix"}))
      .env()
      .required()
      .help("the quota cache: rediss://host[:port][/db], redis:// without TLS, unix:///path");
  options.add("redis-ca-file", &s.redis_ca_file, config::file(config::Must::kExist))
      .env()
      .help("certificate authorities for rediss://; default: the system's");
  options.add("redis-insecure", &s.redis_insecure, config::boolean())
      .env()
      .fallback("false")
      .help("speak to Redis in plain text off this machine too");
  options.check("redis-url", [&s] { return check_redis(s.redis_url, s.redis_insecure, s.redis_ca_file, s.redis); });
}

void declare_sources(OptionSet& options, RunSettings& s) {
  options.add("source", &s.source, config::tagged({{"dir", "PATH"}, {"kubernetes", "[KUBECONFIG]"}}))
      .env()
      .required()
      .help("where BillingPlan, BillingTenant and BillingPolicy come from: dir:PATH, a folder of YAML files; kubernetes, the "
          "cluster that this pod runs in, or --kubeconfig's; kubernetes:KUBECONFIG, that of this file");
  options.add("secret-namespaces", &s.secret_namespaces, config::list_of(config::text(1, 63)))
      .env()
      .help("namespaces whose Secrets may hold API keys that tenants name (apiKeySecretRefs); with --source=kubernetes");
  options.add("accept-removals", &s.acceptance.accept_removals, config::boolean())
      .env()
      .fallback("false")
      .help(
          "believe the source's first look, also where all or more than half of the tenants are missing in it; for one "
          "start");
  options.add("adopt-cluster", &s.acceptance.adopt_cluster, config::boolean())
      .env()
      .fallback("false")
      .help("let this cluster take the place of the one that the ledger's objects are of");
  declare_redis(options, s);
  ledger::declare_database(options, s.database);
  options
      .add("roles", &s.roles,
           config::list_of(config::one_of<Role>({{"controller", Role::kController}, {"pipeline", Role::kPipeline}})))
      .env()
      .fallback("controller,pipeline")
      .help("controller: manifests to Redis; pipeline: floats, usage, aggregates, Stripe");
  options.add("migrate", &s.migrate, config::boolean())
      .env()
      .fallback("false")
      .help("apply pending migrations at start; without it the start is refused while some are pending");
}

void declare_pipeline(OptionSet& options, RunSettings& s) {
  options.add("aggregate-interval", &s.aggregate_interval_ms, config::duration_ms(100, kDayMs))
      .env()
      .fallback("1m")
      .help("how often usage is aggregated; below 1m open minutes are aggregated too, in revisions");
  options.add("aggregate-lateness", &s.aggregate_lateness_ms, config::duration_ms(0, kDayMs))
      .env()
      .fallback("5s")
      .help("how long after its end a minute is left open for late usage; later usage makes a further revision");
  options.add("submit-interval", &s.submit_interval_ms, config::duration_ms(100, kDayMs))
      .env()
      .fallback("5m")
      .help("how often new aggregates go to Stripe; retries have a pace of their own");
  options.add("float-units", &s.float_units, config::integer(1, 1'000'000'000))
      .env()
      .fallback("5000")
      .help("most units of a bucket that are handed to Redis ahead of their use");
}

void declare_billing_metrics(OptionSet& options, RunSettings& s) {
  options.add("tenant-metrics", &s.tenant_metrics, config::integer(0, 10'000))
      .env()
      .fallback("0")
      .help("how many tenants have metrics of their own (usage, limit, state, projection, balance), the largest first; the rest is \"other\"");
  options.add("metrics-interval", &s.metrics_interval_ms, config::duration_ms(1'000, kDayMs))
      .env()
      .fallback("15s")
      .help("how often the leader reads the billing metrics from the ledger");
}

// What `run` and `verify` have in common.
template <class Settings>
void declare_account(OptionSet& options, Settings& s) {
  options
      .add("stripe", &s.stripe,
           config::one_of<Stripe>({{"enabled", Stripe::kEnabled}, {"disabled", Stripe::kDisabled}}))
      .env()
      .fallback("enabled")
      .help("disabled: usage is aggregated and kept, and submitted once this is enabled");
  options.add("stripe-api-key", &s.stripe_api_key, stripe_key())
      .env("STRIPE_API_KEY")
      .secret()
      .help("Stripe's secret key; only from the environment or a file");
  options.add("stripe-api-base", &s.stripe_api_base, config::url({"https", "http"}))
      .env("STRIPE_API_BASE")
      .fallback("https://api.stripe.com")
      .help("Stripe's address; http only on loopback, for an emulator");
  options.add("stripe-version", &s.stripe_version, stripe_version())
      .env()
      .fallback(stripe::kApiVersion)
      .help("the API version that meter events are sent with");
  options.add("stripe-timeout", &s.stripe_timeout_ms, config::duration_ms(100, 120'000))
      .env()
      .fallback("10s")
      .help("time-out of one call");
}

void declare_pace(OptionSet& options, RunSettings& s) {
  options.add("stripe-concurrency", &s.stripe_concurrency, config::integer(1, 100))
      .env()
      .fallback("8")
      .help("calls at once, over different customers and meters; for one pair it is always one");
  options.add("stripe-calls-per-second", &s.stripe_calls_per_second, config::integer(1, 1000))
      .env()
      .fallback("100")
      .help("most calls a second in all; Stripe allows 1000 an account");
}

std::optional<Refusal> check_source(const RunSettings& s) {
  if (s.source.tag == "kubernetes") {
    if (const auto& file = s.source.value.empty() ? s.kubeconfig : s.source.value; !file.empty()) {
      const auto config = kube::from_kubeconfig(file);
      if (!config) return Refusal{config.error().message, "name a kubeconfig that this program can use"};
    } else if (!kube::is_in_cluster()) {
      return Refusal{"this runs in no pod of a cluster", "write kubernetes:KUBECONFIG"};
    }
    return std::nullopt;
  }
  struct stat info {};
  if (::stat(s.source.value.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return Refusal{"there is no folder " + config::quoted(s.source.value), "name a folder that exists"};
  }
  return std::nullopt;
}

std::optional<Refusal> check_stripe_base(const config::Url& url) {
  if (url.scheme == "http" && !config::is_loopback(url.host)) {
    return Refusal{"a key would go over plain HTTP", "use https, or an emulator on 127.0.0.1"};
  }
  if (!url.query.empty() || (!url.path.empty() && url.path != "/") || !url.user.empty() || !url.password.empty()) {
    return Refusal{"it has more than a host", "write scheme, host and port only: https://api.stripe.com"};
  }
  return std::nullopt;
}

std::optional<Refusal> check_stripe_key(const RunSettings& s) {
  if (s.stripe == Stripe::kEnabled && (s.has(Role::kPipeline) || s.api.listen) && s.stripe_api_key.empty()) {
    return Refusal{"STRIPE_API_KEY is not set, so that nothing could be submitted",
                   "set STRIPE_API_KEY, or --stripe-api-key-file, or run with --stripe=disabled"};
  }
  return std::nullopt;
}

// Whoever pays would have paid for nothing.
std::optional<Refusal> check_webhook_secret(const RunSettings& s) {
  if (s.stripe == Stripe::kDisabled || !s.api.listen || !s.payments.webhook_secrets.empty()) return std::nullopt;
  return Refusal{"STRIPE_WEBHOOK_SECRET is not set, so that no event of Stripe could be believed",
                 "set STRIPE_WEBHOOK_SECRET, or --stripe-webhook-secret-file, to the signing secret of the endpoint at Stripe that "
                 "calls /v1/webhooks/stripe, or run with --stripe=disabled"};
}

void declare_rules(OptionSet& options, RunSettings& s) {
  options.check("stripe-webhook-secret", [&s] { return check_webhook_secret(s); });
  options.check("source", [&s] { return check_source(s); });
  options.check("stripe-api-base", [&s] { return check_stripe_base(s.stripe_api_base); });
  options.check("stripe-api-key", [&s] { return check_stripe_key(s); });
}

void declare_publication(OptionSet& options, RunSettings& s) {
  options.add("publication-key-file", &s.publication_key_file, config::file(config::Must::kExist))
      .env()
      .help("PEM: the private key (Ed25519) that signs what is published in Redis, and public keys that sidecars are to trust "
            "beside it; followed. Default: a key that the ledger keeps");
  options.check("publication-key-file", [&s]() -> std::optional<Refusal> {
    if (s.publication_key_file.empty()) return std::nullopt;
    const auto keys = publish::keys_of_file(s.publication_key_file);
    if (keys) return std::nullopt;
    return Refusal{keys.error().message, "make one with `openssl genpkey -algorithm ed25519`"};
  });
}

void declare_pepper(OptionSet& options, RunSettings& s) {
  options.add("api-key-pepper-file", &s.api_key_pepper_file, config::file(config::Must::kExist))
      .env()
      .help("a secret of 32 bytes or more: API keys are published in Redis under an HMAC by it, so that who reads their names there "
            "can try no guesses; sidecars want it too (injected ones get it with their Secret)");
  options.add("api-key-plain-hashes", &s.api_key_plain_hashes, config::boolean())
      .env()
      .fallback("true")
      .help("publish API keys under their SHA-256 too, for sidecars without the pepper; false once all have it");
  options.check("api-key-pepper-file", [&s]() -> std::optional<Refusal> {
    if (s.api_key_pepper_file.empty()) return std::nullopt;
    auto pepper = read_pepper(s.api_key_pepper_file);
    if (!pepper) return Refusal{pepper.error().message, "make one with `openssl rand -hex 32`"};
    s.api_key_pepper = std::move(*pepper);
    s.admission.injector.peppered = true;
    return std::nullopt;
  });
  options.check("api-key-plain-hashes", [&s]() -> std::optional<Refusal> {
    if (s.api_key_plain_hashes || !s.api_key_pepper_file.empty()) return std::nullopt;
    return Refusal{"no API key would be known to any sidecar", "give --api-key-pepper-file too"};
  });
}

config::Parser<std::string> namespace_name() {
  return {[](std::string_view in) -> config::Parsed<std::string> {
            if (in.size() <= 63 && is_dns_subdomain(in) && in.find('.') == in.npos) return std::string(in);
            return config::refuse(config::quoted(in) + " is no name of a namespace", "write lower-case letters, digits and \"-\"");
          },
          "NAMESPACE"};
}

config::Parser<std::optional<config::Url>> pods_redis() {
  const auto base = config::url({"redis", "rediss"});
  return {[base](std::string_view in) -> config::Parsed<std::optional<config::Url>> {
            auto url = base(in);
            if (!url) return tl::unexpected<Refusal>(std::move(url.error()));
            if (url->user.empty() && url->password.empty()) return std::optional(std::move(*url));
            return config::refuse("the URL has a user or a password", "write redis://HOST[:PORT] or rediss://HOST[:PORT]: each "
                                  "namespace gets credentials of its own");
          },
          base.placeholder, base.holds_secret};
}

void declare_credentials(OptionSet& options, RunSettings& s) {
  options.add("sidecar-namespaces", &s.sidecar_namespaces, config::list_of(namespace_name()))
      .env()
      .help("in each of them a Secret, --sidecar-secret, is kept with the URL of a Redis user of its own, which reaches no "
            "other namespace's quotas");
  options.add("sidecar-redis-url", &s.sidecar_redis_url, pods_redis())
      .env()
      .help("how pods reach Redis, without user and password; default: as the operator does");
  options.check("sidecar-namespaces", [&s]() -> std::optional<Refusal> {
    if (s.sidecar_namespaces.empty() || s.sidecar_redis_url || s.redis.unix_path.empty()) return std::nullopt;
    return Refusal{"pods cannot reach the operator's Unix socket of Redis", "say in --sidecar-redis-url how they do"};
  });
}

}  // namespace

bool RunSettings::has(Role role) const { return std::find(roles.begin(), roles.end(), role) != roles.end(); }

void declare_run(OptionSet& options, RunSettings& settings) {
  options.describe(
      "Reads manifests, publishes them to Redis, hands out quota from the ledger, books usage and submits it to "
      "Stripe. Waits, not ready, while Redis or PostgreSQL is away.");
  declare_sources(options, settings);
  telemetry::declare(options, settings.telemetry, "127.0.0.1:9090");
  declare_pipeline(options, settings);
  declare_billing_metrics(options, settings);
  declare_account(options, settings);
  declare_pace(options, settings);
  stripe::declare_payments(options, settings.payments);
  api::declare_api(options, settings.api);
  options.add("kubeconfig", &settings.kubeconfig, config::file(config::Must::kExist))
      .help("where the API server is, for --source=kubernetes, --webhook and --sidecar-namespaces; default: the pod's service "
            "account");
  admission::declare_admission(options, settings.admission);
  declare_publication(options, settings);
  declare_pepper(options, settings);
  declare_credentials(options, settings);
  declare_rules(options, settings);
  // One word for the one Redis that operator and sidecars share.
  options.check("redis-insecure", [&settings]() -> std::optional<Refusal> {
    settings.admission.injector.redis_insecure = settings.redis_insecure;
    settings.admission.injector.keyed_namespaces = settings.sidecar_namespaces;
    return std::nullopt;
  });
  options.check("api-database-url", [&settings]() -> std::optional<Refusal> {
    const std::string& url = settings.api.database_url.text;
    return url.empty() ? std::nullopt : ledger::check_transport(url, settings.database.insecure);
  });
}

void declare_migrate(OptionSet& options, MigrateSettings& settings) {
  options.describe("Applies the migrations that the database lacks. Any number of these may run at once.");
  ledger::declare_database(options, settings.database);
  options.add("wait", &settings.wait_ms, config::duration_ms(0, 3600'000))
      .env()
      .fallback("0s")
      .help("how long to go on trying while the database is away");
}

void declare_publication_key(OptionSet& options, PublicationSettings& s) {
  options.describe(
      "Prints the public keys that sidecars are to trust (--publication-key-file), the one that signs first. Injected "
      "sidecars get them by themselves.");
  ledger::declare_database(options, s.database);
  options.add("publication-key-file", &s.key_file, config::file(config::Must::kExist))
      .env()
      .help("as `run` has it; default: the ledger's keys");
}

void declare_publication_change(OptionSet& options, const std::string& what, PublicationSettings& s) {
  options.describe(what);
  ledger::declare_database(options, s.database);
  options.add("actor", &s.actor, config::text(1, 200)).required().help("who; kept in the audit log");
}

void declare_ledger_status(OptionSet& options, LedgerSettings& s) {
  options.describe(
      "Says whether the ledger knows all that it once told Redis and sidecars, or has gone back, and which usage is "
      "missing. Ends with 1 where it has gone back.");
  declare_redis(options, s);
  ledger::declare_database(options, s.database);
}

void declare_ledger_recover(OptionSet& options, LedgerSettings& s) {
  options.describe(
      "Takes a ledger that was restored from a backup back into service: it learns from Redis and sidecars what it has "
      "forgotten, and asks for the usage that is missing. Have the sidecars running. docs/runbooks/ledger-restore.md");
  declare_redis(options, s);
  ledger::declare_database(options, s.database);
  options.add("actor", &s.actor, config::text(1, 200)).required().help("who; kept in the audit log");
  options.add("reason", &s.reason, config::text(1, 500)).required().help("why; kept in the audit log");
  options.add("hear", &s.hear_ms, config::duration_ms(1500, 600'000))
      .fallback("3s")
      .help("how long sidecars may take to say what they know");
  options.add("gap-wait", &s.gap_wait_ms, config::duration_ms(1000, int64_t{7} * kDayMs))
      .fallback("1m")
      .help("how long missing usage is awaited, and nothing new leased in its shard, before it is given up");
  options.add("force", &s.force, config::boolean())
      .fallback("false")
      .help("also where nobody outside knows more than the ledger");
}

void declare_verify(OptionSet& options, VerifySettings& s) {
  options.describe(
      "Looks whether a deployment is as it must be: PostgreSQL's schema and contents, Redis, Stripe. Changes nothing. "
      "Ends with 0 where everything is right, with 1 where something is missing or wrong.");
  declare_redis(options, s);
  ledger::declare_database(options, s.database);
  declare_account(options, s);
  options.add("output", &s.output, config::one_of<Output>({{"table", Output::kTable}, {"json", Output::kJson}}))
      .env()
      .fallback("table")
      .help("table: for people; json: one document");
  options.check("stripe-api-base", [&s] { return check_stripe_base(s.stripe_api_base); });
  options.check("stripe-api-key", [&s]() -> std::optional<Refusal> {
    if (s.stripe == Stripe::kDisabled || !s.stripe_api_key.empty()) return std::nullopt;
    return Refusal{"STRIPE_API_KEY is not set, so that Stripe cannot be asked",
                   "set STRIPE_API_KEY, or --stripe-api-key-file, or verify with --stripe=disabled"};
  });
}

}  // namespace tallygate::operator_main
