// How many records a second the pump moves from Redis into the ledger, on a PostgreSQL that flushes its commits.
// bench_pump [records = 400000] [tenants = 200] [batch = 10000]
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "core/redis_contract/bucket_id.h"
#include "core/redis_contract/keys.h"
#include "core/redis_contract/record.h"
#include "operator/ledger/tenant_store.h"
#include "operator/pump/pump.h"
#include "tests/integration/support/postgres_server.h"
#include "tests/integration/support/redis_server.h"

namespace tallygate::testing {
namespace {

constexpr int64_t kDay_s = 86'400;
constexpr size_t kPerPipeline = 5000;

template <class T>
T must(Result<T> result) {
  if (!result) assertion_failed(result.error().message.c_str(), __FILE__, __LINE__);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

double cpu_s() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// CPU time of another process, 0 where the kernel does not tell.
double cpu_s_of(int64_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string word;
  double ticks = 0;
  for (int field = 1; field <= 15 && file >> word; ++field) {
    if (field >= 14) ticks += std::atof(word.c_str());  // the program's name, "(postgres)", has no blank
  }
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

std::string tenant_name(int64_t n) { return "bench/t" + std::to_string(n); }

void publish(ledger::Session& session, int64_t tenants) {
  std::vector<ledger::TenantRecord> records;
  for (int64_t n = 0; n < tenants; ++n) {
    ledger::TenantRecord record;
    record.tenant.id = *TenantId::parse(tenant_name(n));
    tenant::Limit limit;
    limit.name = *LimitName::parse("calls-day");
    limit.meter = *MeterName::parse("api_calls");
    limit.amount = limit.capacity = tenant::kUnbounded;
    limit.window = tenant::WindowKind::kDay;
    record.tenant.limits = {limit};
    records.push_back(std::move(record));
  }
  ledger::TenantStore store(system_env(), session);
  must(store.publish(records, {}));
}

// As two sidecars would: a record per tenant and second, in order, per shard a sequence of its own.
int64_t fill(redis::Client& client, int64_t records, int64_t tenants) {
  const int64_t now_s = system_env().wall_s();
  const std::string day = redis_contract::BucketId{"calls-day", false, now_s / kDay_s * kDay_s, kDay_s}.str();
  const std::string month = redis_contract::BucketId{"calls-month", false, now_s / kDay_s * kDay_s, 30 * kDay_s}.str();
  std::map<std::pair<int, std::string>, int64_t> seqs;
  std::vector<redis::Command> commands;
  int64_t sent = 0;
  const auto flush = [&] {
    for (auto& reply : client.pipeline(commands)) must(redis::Client::check(std::move(reply)));
    commands.clear();
  };
  const auto add = [&](int shard, const redis_contract::Record& record) {
    commands.push_back({"XADD", redis_contract::usage_key(shard), "*", "r", redis_contract::encode(record)});
    if (commands.size() >= kPerPipeline) flush();
    ++sent;
  };
  for (int64_t i = 0; i < records; ++i) {
    redis_contract::Record record;
    record.tenant = tenant_name(i / 2 % tenants);
    record.incarnation =
        i % 2 == 0 ? "gateway-6d5f9c-x7k2p.1795000000.a1b2c3" : "gateway-6d5f9c-q9m4z.1795000000.d4e5f6";
    const int shard = redis_contract::shard_of(record.tenant);
    int64_t& seq = seqs[{shard, record.incarnation}];
    if (seq == 0) {
      redis_contract::Record hello;
      hello.kind = redis_contract::RecordKind::kHello;
      hello.incarnation = record.incarnation;
      hello.seq = ++seq;
      hello.boot_id = hello.pod = hello.software = "bench";
      add(shard, hello);
    }
    record.seq = ++seq;
    record.epoch = 1;
    record.meter = "api_calls";
    record.units = 1 + i % 7;
    record.requests = 1;
    record.second = now_s + i / (2 * tenants);
    record.dims = {{"route", "chat"}, {"namespace", "shop"}};
    record.buckets = {day, month};
    add(shard, record);
  }
  flush();
  return sent;
}

int run(int64_t records, int64_t tenants, size_t batch) {
  Env& env = system_env();
  PostgresServer postgres(true);
  RedisServer redis;
  const std::string url = postgres.create_database();
  ledger::Session session(url);
  publish(session, tenants);
  redis::Client client(env, redis.endpoint());
  const int64_t sent = fill(client, records, tenants);
  std::printf("%lld records of %lld tenants wait in Redis\n", static_cast<long long>(sent),
              static_cast<long long>(tenants));

  pump::Pump pump(env, {.database_url = url, .redis = redis.endpoint(), .max_batch = batch});
  const double cpu_before = cpu_s();
  const int64_t start_ns = env.mono_ns();
  pump.start();
  while (pump.counters().records_booked < sent) env.sleep_ms(2);
  const double seconds = static_cast<double>(env.mono_ns() - start_ns) / 1e9;
  const double cpu = cpu_s() - cpu_before;
  const auto backend = must(
      session.exec("select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"));
  const double backend_cpu = backend.empty() ? 0 : cpu_s_of(backend.integer(0, 0));
  pump.stop();
  const auto rows = must(session.exec("select count(*) from usage_records"));
  const auto per_record_us = [&](double total_s) { return total_s * 1e6 / static_cast<double>(sent); };
  std::printf(
      "pump: %.0f records/s (%.2f s, %lld batches); CPU per record: pump %.1f us, its PostgreSQL backend %.1f us\n",
      static_cast<double>(sent) / seconds, seconds, static_cast<long long>(pump.counters().batches), per_record_us(cpu),
      per_record_us(backend_cpu));
  return rows.integer(0, 0) == records ? 0 : 1;
}

}  // namespace
}  // namespace tallygate::testing

int main(int argc, char** argv) {
  const auto number = [&](int i, long long otherwise) { return argc > i ? std::atoll(argv[i]) : otherwise; };
  return tallygate::testing::run(number(1, 400'000), number(2, 200), static_cast<size_t>(number(3, 10'000)));
}
