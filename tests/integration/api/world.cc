#include "tests/integration/api/world.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>

#include "core/base64.h"
#include "operator/api/service_tokens.h"

namespace tallygate::testing {
namespace {

constexpr int64_t kDay = 86'400;

void add_tenant(plan::Compiled& compiled, const std::string& id, int64_t now_s) {
  const std::string name = id.substr(id.find('/') + 1);
  tenant::Tenant tenant;
  tenant.id = *TenantId::parse(id);
  tenant.version = 1;
  tenant.plan = *PlanName::parse("standard-v1");
  tenant.allowed_namespaces = {"shop"};
  tenant.meters = {{*MeterName::parse("api_calls"), "call", tenant::Settlement::kInvoice},
                   {*MeterName::parse("sms"), "message", tenant::Settlement::kWallet}};
  tenant.entitlements = {"knowledge_base"};
  tenant::Limit limit;
  limit.name = *LimitName::parse("calls-day");
  limit.meter = *MeterName::parse("api_calls");
  limit.amount = limit.capacity = 100;
  limit.window = tenant::WindowKind::kDay;
  for (int64_t i = -40; i <= 2; ++i) limit.boundaries_s.push_back((now_s / kDay + i) * kDay);
  tenant.limits = {limit};
  compiled.tenants.push_back(tenant);

  plan::TenantBilling billing;
  billing.tenant = tenant.id;
  billing.plan = tenant.plan;
  billing.currency = "GBP";
  plan::MeterPrice calls, sms;
  calls.meter = *MeterName::parse("api_calls");
  calls.prices = {1000, {{1000, 0}, {std::nullopt, 400'000}}};
  sms.meter = *MeterName::parse("sms");
  sms.settlement = tenant::Settlement::kWallet;
  sms.prices = {1, {{std::nullopt, 40'000}}};
  billing.meters = {calls, sms};
  billing.wallet = plan::WalletTerms{"GBP", 5'000'000};
  compiled.billing.push_back(billing);
  compiled.identities.push_back({"external", "ext-" + name, tenant.id});
}

void add_gate(tenant::Policy& policy, const std::string& gate, const std::string& meter, int64_t units,
              const std::string& entitlement = "") {
  tenant::Route route;
  route.name = *LimitName::parse(gate);
  route.gate = gate;
  route.entitlement = entitlement;
  tenant::Charge charge;
  charge.meter = *MeterName::parse(meter);
  charge.units = units;
  route.charges = {charge};
  policy.routes.push_back(route);
}

}  // namespace

std::string Answer::member(const std::string& name) const {
  const std::string wanted = "\"" + name + "\":";
  const size_t at = body.find(wanted);
  if (at == std::string::npos) return "";
  size_t begin = at + wanted.size();
  if (body[begin] != '"') return body.substr(begin, body.find_first_of(",}]", begin) - begin);
  ++begin;
  return body.substr(begin, body.find('"', begin) - begin);
}

std::string request_text(const Ask& ask) {
  std::string text = ask.method + " " + ask.path + " HTTP/1.1\r\nHost: api\r\n";
  if (!ask.token.empty()) text += "Authorization: Bearer " + ask.token + "\r\n";
  if (!ask.key.empty()) text += "Idempotency-Key: " + ask.key + "\r\n";
  if (!ask.tenant.empty()) text += "Tallygate-Tenant: " + ask.tenant + "\r\n";
  for (const auto& [name, value] : ask.headers) text += name + ": " + value + "\r\n";
  if (ask.method == "POST") {
    if (!ask.content_type.empty()) text += "Content-Type: " + ask.content_type + "\r\n";
    text += "Content-Length: " + std::to_string(ask.body.size()) + "\r\n";
  }
  return text + "\r\n" + ask.body;
}

namespace {

// Reasons and the statuses that docs/problems.md gives them.
const std::map<std::string, std::string>& documented_statuses() {
  static const std::map<std::string, std::string> kAll = [] {
    std::map<std::string, std::string> out;
    std::ifstream file("docs/problems.md");
    const std::regex row(R"(\| `(\w+)` \| ([\d, ]+|–) \|.*)");
    std::smatch match;
    for (std::string line; std::getline(file, line);) {
      if (std::regex_match(line, match, row)) out[match[1]] = match[2];
    }
    return out;
  }();
  return kAll;
}

// Every problem that any test of the API meets is as the table for users says.
void expect_documented(const Answer& answer) {
  if (answer.body.empty() || answer.head.find("application/problem+json") == std::string::npos) return;  // HEAD
  const std::string reason = answer.member("reason");
  const auto& documented = documented_statuses();
  const auto found = documented.find(reason);
  EXPECT_TRUE(found != documented.end() && found->second.find(std::to_string(answer.status)) != std::string::npos)
      << reason << " with " << answer.status << " is not in docs/problems.md";
}

}  // namespace

Answer parse_answer(const std::string& response) {
  Answer answer;
  const size_t end = response.find("\r\n\r\n");
  if (end == std::string::npos) return answer;
  answer.status = std::stoi(response.substr(9, 3));
  answer.head = response.substr(0, end);
  answer.body = response.substr(end + 4);
  expect_documented(answer);
  return answer;
}

std::string sign_hs256(const std::string& header, const std::string& payload, const std::string& secret) {
  const std::string text = base64url_encode(header) + "." + base64url_encode(payload);
  unsigned char mac[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), mac, &size);
  return text + "." + base64url_encode(std::string_view(reinterpret_cast<const char*>(mac), size));
}

std::shared_ptr<const plan::Compiled> sample_manifests(int64_t now_s) {
  auto compiled = std::make_shared<plan::Compiled>();
  for (const char* id : {"shop/acme", "shop/globex", "shop/initech"}) add_tenant(*compiled, id, now_s);
  tenant::Policy policy;
  policy.id = *PolicyId::parse("shop/api");
  add_gate(policy, "sms-send", "sms", 1);
  add_gate(policy, "sign-in", "api_calls", 1);
  add_gate(policy, "knowledge-base", "api_calls", 5, "knowledge_base");
  add_gate(policy, "outbound-call", "sms", 3, "outbound_calls");
  add_gate(policy, "phone-number", "unsold", 1);
  policy.default_route.name = *LimitName::parse("default");
  compiled->policies.push_back(policy);
  return compiled;
}

std::string service_token(const std::string& name, const std::string& token, const std::string& scopes,
                          const std::string& tenants) {
  return R"({"name":")" + name + R"(","sha256":")" + sha256_hex(token) + R"(","scopes":[)" + scopes +
         R"(],"tenants":[)" + tenants + "]}";
}

std::string write_service_tokens(const std::string& folder) {
  const std::string all = R"("wallet:read","wallet:write","usage:write")";
  std::ofstream(folder + "/tokens.json")
      << R"({"tokens":[)" + service_token("acme", kAcmeToken, all, R"("shop/acme")") + "," +
             service_token("read", kReadToken, R"("wallet:read")", R"("shop/acme")") + "," +
             service_token("globex", kGlobexToken, all, R"("shop/globex")") + "," +
             service_token("lease", kLeaseToken, R"("lease:write")", R"("shop/acme")") + "," +
             service_token("admin", kAdminToken, R"("admin")", R"("*")") + "]}";
  return folder + "/tokens.json";
}

void publish_tenants(ledger::Session& session, const plan::Compiled& compiled) {
  std::vector<ledger::TenantRecord> records;
  for (size_t i = 0; i < compiled.tenants.size(); ++i) {
    ledger::TenantRecord record;
    record.tenant = compiled.tenants[i];
    for (const auto& price : compiled.billing[i].meters) {
      ledger::PricedMeter meter;
      meter.meter = price.meter;
      meter.settlement = price.settlement;
      meter.currency = "GBP";
      meter.per_units = price.prices.per_units;
      for (const auto& tier : price.prices.tiers)
        meter.tiers.push_back({tier.up_to.value_or(tenant::kUnbounded), tier.price});
      record.meters.push_back(meter);
    }
    record.wallet = ledger::WalletTerms{"GBP", 5'000'000};
    records.push_back(record);
  }
  ledger::TenantStore store(system_env(), session);
  const auto done = store.publish(records, {});
  ASSERT_TRUE(done) << done.error().message;
}

ApiWorld::ApiWorld(Options options)
    : url(!options.url.empty()
              ? options.url
              : (options.postgres != nullptr ? *options.postgres : PostgresServer::shared()).create_database()),
      folder(make_temporary_folder()),
      api_url(url),
      session(url) {
  const auto manifests = sample_manifests(system_env().wall_s());
  publish_tenants(session, *manifests);
  settings.listen = config::ListenAddress{"127.0.0.1", 0};
  settings.service_tokens_file = write_service_tokens(folder);
  settings.jwt_secret = kJwtSecret;
  settings.jwt_issuer = kIssuer;
  settings.jwt_audience = kAudience;
  settings.jwt_tenant_claim = "/app_metadata/org_id";
  settings.exchange_rates = {{"USD", "GBP", *parse_exchange_rate("0.79")},
                             {"USD", "JPY", *parse_exchange_rate("149.53")},
                             {"GBP", "KWD", *parse_exchange_rate("0.3887")}};
  settings.rate_per_second = settings.rate_burst = 1'000'000;
  settings.watch_interval_ms = 100;
  if (!options.providers.empty()) {
    settings.providers_file = folder + "/providers.json";
    std::ofstream(settings.providers_file) << std::regex_replace(options.providers, std::regex("FOLDER"), folder);
  }
  if (options.prepare) options.prepare(*this);
  registry = std::make_unique<metrics::Registry>();
  if (options.payments) {
    stripe_http = make_http_client();
    stripe::ClientOptions calls;
    calls.api_base = options.stripe_base;
    calls.api_key = "sk_test_emulator";
    calls.calls_per_second = 1'000;
    calls.retry_base_ms = 10;
    stripe_client = std::make_unique<stripe::Client>(system_env(), *stripe_http, calls, *registry);
    payments = std::make_unique<stripe::Payments>(*options.payments, false, *stripe_client, *registry);
  }
  auto made = api::ApiServer::create(system_env(), api_url, std::move(options.redis), settings, *registry, nullptr,
                                     payments.get(), api_url == url ? "" : url);
  if (!made) throw std::runtime_error(made.error().message);
  server = std::move(*made);
  if (options.offer) server->offer(manifests);
  if (auto started = server->start(); !started) throw std::runtime_error(started.error().message);
}

ApiWorld::~ApiWorld() {
  server.reset();
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}

double ApiWorld::metric_of(const metrics::Registry& registry, const std::string& name) {
  const std::string text = "\n" + registry.text();
  const size_t at = text.find("\n" + name + " ");
  return at == std::string::npos ? 0 : std::stod(text.substr(at + name.size() + 2));
}

void ApiWorld::credit(const std::string& tenant, int64_t micros) {
  const auto rows =
      session.exec("select success, reason from add_wallet_credits($1, $2, null, 'GBP', $3, 'test', now())",
                   {tenant, "credit-" + std::to_string(++credits_), micros});
  ASSERT_TRUE(rows) << rows.error().message;
  ASSERT_TRUE(rows->boolean(0, 0)) << rows->text(0, 1);
}

int64_t ApiWorld::number(const std::string& sql) {
  const auto rows = session.exec(sql);
  if (!rows) throw std::runtime_error(rows.error().message);
  return rows->empty() ? -1 : rows->integer(0, 0);
}

}  // namespace tallygate::testing
