// Latency of the API at 100 concurrent clients, or as many as are told, beside pgbench running the same SQL in the same
// run. One JSON line per operation, in a closed loop and at a rate: requests, errors, throughput, p50 and p99 in
// microseconds, CPU time of each request.
//   api_latency [REQUESTS PER OPERATION [CLIENTS]]
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <sstream>

#include "core/telemetry/log.h"
#include "tests/integration/api/world.h"

namespace tallygate::testing {
namespace {

constexpr int kClientsDefault = 100;
constexpr int kRate = 5000;   // requests a second of the open loop
constexpr int kTenants = 50;  // otherwise one wallet's row lock is all that is measured

std::string tenant_name(int i) { return "shop/t" + std::to_string(i % kTenants); }

// CPU time so far in microseconds: of PostgreSQL's processes, those that ended included, of this one (API and
// clients) and of this thread (clients).
struct CpuTime {
  int64_t postgres_us = 0, own_us = 0, thread_us = 0;
};
int64_t cpu_us(int whose) {
  rusage usage{};
  ::getrusage(whose, &usage);
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1'000'000 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}
CpuTime cpu_time(pid_t postmaster) {
  const int64_t tick_us = 1'000'000 / ::sysconf(_SC_CLK_TCK);
  CpuTime out;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const int pid = std::atoi(entry.path().filename().c_str());
    if (pid == 0) continue;
    std::ifstream file(entry.path() / "stat");
    std::string text((std::istreambuf_iterator<char>(file)), {});
    const size_t end = text.rfind(')');  // the name before it may hold anything
    if (end == std::string::npos) continue;
    std::istringstream rest(text.substr(end + 2));
    std::vector<std::string> fields((std::istream_iterator<std::string>(rest)), {});
    const bool own = pid == postmaster || fields[1] == std::to_string(postmaster);
    if (own) out.postgres_us += (std::stoll(fields[11]) + std::stoll(fields[12])) * tick_us;
    if (pid == postmaster) out.postgres_us += (std::stoll(fields[13]) + std::stoll(fields[14])) * tick_us;
  }
  out.own_us = cpu_us(RUSAGE_SELF);
  out.thread_us = cpu_us(RUSAGE_THREAD);
  return out;
}

struct Target {
  uint16_t port;
  pid_t postmaster;
  int clients;
};

// Clients as keep-alive connections on one event loop. As cheap as can be, since it takes its share of the same cores.
// Either each sends its next request as soon as it has its answer (closed loop): that tells the throughput, and a
// latency that is nothing but clients ÷ throughput. Or requests come by themselves at a rate, as from many callers who
// do not know of each other (open loop, a Poisson process), and whoever finds no client free waits: his latency counts
// from when he came.
class Clients {
 public:
  Clients(uint16_t port, int count) : clients_(static_cast<size_t>(count)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (Client& client : clients_) {
      client.fd = ::socket(AF_INET, SOCK_STREAM, 0);
      TG_ASSERT(::connect(client.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
      const int on = 1;
      ::setsockopt(client.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      epoll_event event{.events = EPOLLIN, .data = {.ptr = &client}};
      TG_ASSERT(::epoll_ctl(epoll_, EPOLL_CTL_ADD, client.fd, &event) == 0);
    }
  }
  ~Clients() {
    for (const Client& client : clients_) ::close(client.fd);
    ::close(epoll_);
  }

  // How long each took. Answers other than 200 and 201 are errors. `rate`: a second; 0: closed loop.
  std::vector<int64_t> run(int requests, const std::function<Ask(int)>& ask, int& errors, int rate = 0) {
    Env& env = system_env();
    std::mt19937_64 random(20261126);
    std::exponential_distribution<double> gap_s(std::max(1, rate));
    std::vector<int64_t> taken;
    taken.reserve(static_cast<size_t>(requests));
    std::vector<Client*> idle;
    for (Client& client : clients_) idle.push_back(&client);
    std::vector<epoll_event> events(clients_.size());
    int64_t due_ns = env.mono_ns();
    for (int next = 0; taken.size() < static_cast<size_t>(requests);) {
      int64_t now_ns = env.mono_ns();
      while (next < requests && !idle.empty() && (rate == 0 || due_ns <= now_ns)) {
        Client& client = *idle.back();
        idle.pop_back();
        client.since_ns = rate == 0 ? env.mono_ns() : due_ns;
        send(client, request_text(ask(next++)));
        if (rate > 0) due_ns += static_cast<int64_t>(gap_s(random) * 1e9);
      }
      const bool waits_for_time = next < requests && !idle.empty();
      const int64_t wait_ns = waits_for_time ? std::max<int64_t>(0, due_ns - env.mono_ns()) : 10'000'000'000;
      const timespec wait{.tv_sec = wait_ns / 1'000'000'000, .tv_nsec = wait_ns % 1'000'000'000};
      const int ready = ::epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), &wait, nullptr);
      TG_ASSERT(ready > 0 || waits_for_time);
      for (int i = 0; i < ready; ++i) {
        Client& client = *static_cast<Client*>(events[static_cast<size_t>(i)].data.ptr);
        const int status = read_status(client);
        if (status == 0) continue;
        now_ns = env.mono_ns();
        taken.push_back(now_ns - client.since_ns);
        if (status != 200 && status != 201) ++errors;
        idle.push_back(&client);
      }
    }
    return taken;
  }

 private:
  struct Client {
    int fd = -1;
    int64_t since_ns = 0;
    std::string answer;
  };
  // Requests are short and one at a time: the socket has room.
  static void send(Client& client, const std::string& text) {
    TG_ASSERT(::send(client.fd, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
  }
  // 0: there is more to come.
  static int read_status(Client& client) {
    static constexpr std::string_view kLength = "Content-Length: ";
    char bytes[16'384];
    const ssize_t size = ::recv(client.fd, bytes, sizeof bytes, 0);
    TG_ASSERT(size > 0);
    client.answer.append(bytes, static_cast<size_t>(size));
    const size_t head_end = client.answer.find("\r\n\r\n");
    if (head_end == std::string::npos) return 0;
    const size_t field = client.answer.find(kLength);
    TG_ASSERT(field < head_end);
    const size_t body = std::stoul(client.answer.substr(field + kLength.size(), 8));
    if (client.answer.size() < head_end + 4 + body) return 0;
    const int status = std::stoi(client.answer.substr(9, 3));
    client.answer.clear();
    return status;
  }

  const int epoll_ = ::epoll_create1(0);
  std::vector<Client> clients_;
};

// Numbers of requests, so that each is asked once.
int asked = 0;

void measure(const char* name, const Target& target, int requests, int rate, const std::function<Ask(int)>& ask) {
  Env& env = system_env();
  Clients clients(target.port, target.clients);
  int errors = 0;
  const int first = std::exchange(asked, asked + requests);
  const CpuTime before = cpu_time(target.postmaster);
  const int64_t begin_ns = env.mono_ns();
  auto all = clients.run(
      requests, [&](int i) { return ask(first + i); }, errors, rate);
  const double seconds = static_cast<double>(env.mono_ns() - begin_ns) / 1e9;
  const CpuTime after = cpu_time(target.postmaster);
  std::sort(all.begin(), all.end());
  const auto at = [&](size_t percent) {
    return static_cast<long long>(all[std::min(all.size() - 1, all.size() * percent / 100)] / 1000);
  };
  const auto each = [&](int64_t us) { return static_cast<long long>(us / static_cast<int64_t>(all.size())); };
  std::printf(
      "{\"api\":\"%s\",\"loop\":\"%s\",\"requests\":%zu,\"errors\":%d,\"per_second\":%.0f,\"p50_us\":%lld,\"p99_us\":%"
      "lld,"
      "\"postgres_cpu_us\":%lld,\"api_and_client_cpu_us\":%lld,\"client_cpu_us\":%lld}\n",
      name, rate == 0 ? "closed" : "open", all.size(), errors, static_cast<double>(all.size()) / seconds, at(50),
      at(99), each(after.postgres_us - before.postgres_us), each(after.own_us - before.own_us),
      each(after.thread_us - before.thread_us));
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
  const std::string command = "PGOPTIONS='-c jit=off -c enable_seqscan=off' pgbench -n -c 16 -j 2 -t " +
                              std::to_string(std::max(1, requests / 16)) + " -f '" + script + "' '" + url +
                              "' 2>&1 | grep -E 'latency average|tps|failed' | tr '\\n' ' '; echo";
  if (std::system(("command -v pgbench >/dev/null && " + command + " || echo 'pgbench is not installed'").c_str()) !=
      0) {
    std::puts("pgbench failed");
  }
  std::remove(script.c_str());
}

int run(int requests, int clients) {
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
  // A deployment that has some history, and whose statistics know it.
  for (const char* statement :
       {"select check_balance_and_deduct_asset_cost(id, 'past-' || n, null, null, 10000, '', now()) "
        "from tenants, generate_series(1, 200) n",
        "select reserve_call_credits(id, null, null, null, 'past-' || n, 10000, now() + interval '1 hour', '', now()) "
        "from tenants, generate_series(1, 200) n",
        "select commit_reserved_credits(id, null, null, null, 'past-' || n, 10000, '', now()) "
        "from tenants, generate_series(1, 200) n",
        "analyze"}) {
    TG_ASSERT(session.exec(statement).has_value());
  }
  // And that has run for a while: files of its log are used again, not made. Else each 16 MB would stop it for 10 ms.
  for (const char* statement : {"alter system set min_wal_size = '1GB'", "select pg_reload_conf()",
                                "do $$ begin for i in 1..600 loop perform pg_logical_emit_message(false, '', "
                                "repeat('x', 1000000)); end loop; end $$",
                                "checkpoint"}) {
    postgres.admin(statement);
  }
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
  const Target target{(*server)->port(), postgres.pid(), clients};
  const auto reserve = [&](int i) {
    return post(i, "/v1/reservations", R"({"amount":"0.10","callId":"c)" + std::to_string(i) + "\"}");
  };
  const auto commit = [&](int i) {
    return post(i, "/v1/reservations/c" + std::to_string(i) + "/commit", R"({"cost":"0.05"})");
  };
  const auto purchase = [&](int i) { return post(i, "/v1/deductions", R"({"amount":"0.10"})"); };
  const auto status_check = [&](int i) { return post(i, "/v1/status-check", "{}"); };
  // First a part that does not count: connections compile and plan their functions.
  for (const auto& ask : std::vector<std::function<Ask(int)>>{reserve, commit, purchase, status_check}) {
    asked = 0;
    int errors = 0;
    Clients(target.port, target.clients).run(2000, ask, errors);
  }
  for (const int rate : {0, kRate}) {
    const int begin = std::max(asked, 2000);
    for (const auto& [name, ask] : std::vector<std::pair<const char*, std::function<Ask(int)>>>{
             {"reserve", reserve}, {"commit", commit}, {"purchase", purchase}, {"status-check", status_check}}) {
      asked = begin;  // commits are of what was reserved
      measure(name, target, requests, rate, ask);
    }
  }
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
  const int code = tallygate::testing::run(argc > 1 ? std::stoi(argv[1]) : 5000,
                                           argc > 2 ? std::stoi(argv[2]) : tallygate::testing::kClientsDefault);
  tallygate::log::stop();
  return code;
}
