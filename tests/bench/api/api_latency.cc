// Latency of the API at 100 concurrent clients, beside pgbench running the same SQL in the same run. One JSON line per
// operation: requests, errors, throughput, p50 and p99 in microseconds.
//   api_latency [REQUESTS PER OPERATION]
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>

#include "core/telemetry/log.h"
#include "tests/integration/api/world.h"

namespace tallygate::testing {
namespace {

constexpr int kClients = 100;
constexpr int kTenants = 50;  // otherwise one wallet's row lock is all that is measured

std::string tenant_name(int i) { return "shop/t" + std::to_string(i % kTenants); }

void measure(const char* name, uint16_t port, int requests, const std::function<Ask(int)>& ask) {
  Env& env = system_env();
  std::vector<std::vector<int64_t>> taken(kClients);
  std::atomic<int> next = 0, errors = 0;
  const int64_t begin_ns = env.mono_ns();
  std::vector<std::thread> clients;
  for (auto& own : taken) {
    clients.emplace_back([&] {
      ApiClient client(port);
      for (int i = next++; i < requests; i = next++) {
        const Ask what = ask(i);
        const int64_t sent_ns = env.mono_ns();
        const int status = client.send(what).status;
        own.push_back(env.mono_ns() - sent_ns);
        if (status != 200 && status != 201) ++errors;
      }
    });
  }
  for (auto& client : clients) client.join();
  const double seconds = static_cast<double>(env.mono_ns() - begin_ns) / 1e9;
  std::vector<int64_t> all;
  for (const auto& own : taken) all.insert(all.end(), own.begin(), own.end());
  std::sort(all.begin(), all.end());
  const auto at = [&](size_t percent) {
    return static_cast<long long>(all[std::min(all.size() - 1, all.size() * percent / 100)] / 1000);
  };
  std::printf("{\"api\":\"%s\",\"requests\":%zu,\"errors\":%d,\"per_second\":%.0f,\"p50_us\":%lld,\"p99_us\":%lld}\n",
              name, all.size(), errors.load(), static_cast<double>(all.size()) / seconds, at(50), at(99));
  std::fflush(stdout);
}

// The same statement on as many connections as the API has.
void pgbench(const char* name, const std::string& url, const std::string& folder, const std::string& statement,
             int requests) {
  const std::string script = folder + "/script.sql";
  std::ofstream(script) << "\\set t random(0, " << kTenants - 1 << ")\nbegin;\nset local role tallygate_api;\n"
                        << "select set_config('tallygate.tenant', 'shop/t' || :t, true);\n"
                        << statement << "\ncommit;\n";
  std::printf("{\"pgbench\":\"%s\"} ", name);
  std::fflush(stdout);
  const std::string command = "pgbench -n -c 16 -j 2 -t " + std::to_string(std::max(1, requests / 16)) + " -f '" +
                              script + "' '" + url +
                              "' 2>&1 | grep -E 'latency average|tps|failed' | tr '\\n' ' '; echo";
  if (std::system(("command -v pgbench >/dev/null && " + command + " || echo 'pgbench is not installed'").c_str()) !=
      0) {
    std::puts("pgbench failed");
  }
  std::remove(script.c_str());
}

int run(int requests) {
  PostgresServer postgres(true);
  const std::string url = postgres.create_database();
  const std::string folder = make_temporary_folder();
  ledger::Session session(url);
  auto manifests = std::make_shared<plan::Compiled>(*sample_manifests(system_env().wall_s()));
  const auto tenant = manifests->tenants.front();
  const auto billing = manifests->billing.front();
  manifests->tenants.clear();
  manifests->billing.clear();
  for (int i = 0; i < kTenants; ++i) {
    manifests->tenants.push_back(tenant);
    manifests->tenants.back().id = *TenantId::parse(tenant_name(i));
    manifests->billing.push_back(billing);
    manifests->billing.back().tenant = manifests->tenants.back().id;
  }
  publish_tenants(session, *manifests);
  TG_ASSERT(session.exec("select add_wallet_credits(id, 'seed', null, 'GBP', 900000000000000, '', now()) from tenants")
                .has_value());
  api::ApiSettings settings;
  settings.listen = config::ListenAddress{"127.0.0.1", 0};
  settings.service_tokens_file = write_service_tokens(folder);
  settings.rate_per_second = settings.rate_burst = 1'000'000;
  metrics::Registry registry;
  auto server = api::ApiServer::create(system_env(), url, std::nullopt, settings, registry);
  TG_ASSERT(server.has_value());
  (*server)->offer(manifests);
  TG_ASSERT((*server)->start().has_value());
  const auto post = [](int i, const std::string& path, const std::string& body) {
    return Ask{.method = "POST",
               .path = path,
               .body = body,
               .token = kAdminToken,
               .key = path.substr(4, 3) + std::to_string(i) + path.substr(path.size() - 3),
               .tenant = tenant_name(i)};
  };
  const uint16_t port = (*server)->port();
  measure("warm-up", port, 500, [&](int i) { return post(i, "/v1/status-check", "{}"); });
  measure("reserve", port, requests, [&](int i) {
    return post(i, "/v1/reservations", R"({"amount":"0.10","callId":"c)" + std::to_string(i) + "\"}");
  });
  measure("commit", port, requests,
          [&](int i) { return post(i, "/v1/reservations/c" + std::to_string(i) + "/commit", R"({"cost":"0.05"})"); });
  measure("purchase", port, requests, [&](int i) { return post(i, "/v1/deductions", R"({"amount":"0.10"})"); });
  measure("status-check", port, requests, [&](int i) { return post(i, "/v1/status-check", "{}"); });
  pgbench("reserve", url, folder,
          "select * from reserve_call_credits('shop/t' || :t, null, null, null, gen_random_uuid()::text, 100000, now() "
          "+ interval '1 hour', '', now());",
          requests);
  pgbench("commit", url, folder,
          "select * from commit_reserved_credits('shop/t' || :t, null, null, null, gen_random_uuid()::text, 50000, '', "
          "now());",
          requests);
  pgbench("purchase", url, folder,
          "select * from check_balance_and_deduct_asset_cost('shop/t' || :t, gen_random_uuid()::text, null, null, "
          "100000, '', now());",
          requests);
  pgbench("status-check", url, folder, "select * from status_check('shop/t' || :t, null);", requests);
  (*server)->stop();
  std::remove(settings.service_tokens_file.c_str());
  std::remove(folder.c_str());
  return 0;
}

}  // namespace
}  // namespace tallygate::testing

int main(int argc, char** argv) {
  tallygate::log::start({.level = tallygate::log::Level::kError}, tallygate::system_env());
  const int code = tallygate::testing::run(argc > 1 ? std::stoi(argv[1]) : 5000);
  tallygate::log::stop();
  return code;
}
