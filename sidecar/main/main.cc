// tallygate-sidecar: settings → log → recover → listen → signals → bounded drain.
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "core/config/options.h"
#include "core/core_dumps.h"
#include "core/telemetry/admin_server.h"
#include "sidecar/init/init.h"
#include "sidecar/main/descriptors.h"
#include "sidecar/main/sidecar.h"

namespace tallygate::sidecar {
namespace {

// SIGTERM and SIGINT as events of the loop. Made before any thread, so that all of them inherit the blocked mask.
class Signals final : public EventLoop::Watcher {
 public:
  Signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    signal(SIGPIPE, SIG_IGN);
    fd_ = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  }
  ~Signals() { close(fd_); }
  void watch(EventLoop& loop, std::function<void()> fn) {
    fn_ = std::move(fn);
    loop.add(fd_, EPOLLIN, this);
  }

 private:
  void on_ready(uint32_t) override {
    signalfd_siginfo info;
    while (read(fd_, &info, sizeof info) == sizeof info) fn_();
  }
  int fd_ = -1;
  std::function<void()> fn_;
};

int stop_with(const Error& error) {
  log::error("cannot start", {{"error", error.message}});
  log::stop();
  return error.errc == Errc::kInvalid ? config::kExitUsage : EXIT_FAILURE;
}

// Clients are what gives way: without a descriptor for the log or for Redis nothing works.
void fit_into_descriptors(Settings& settings) {
  const uint64_t limit = raise_descriptor_limit();
  const size_t clients = clients_within(limit);
  if (settings.proxy.client_connections_max <= clients) return;
  log::warn("fewer client connections than --max-connections: RLIMIT_NOFILE is too low",
            {{"limit", limit},
             {"max_connections", settings.proxy.client_connections_max},
             {"taken", clients},
             {"fix", "raise the hard limit: ulimit -n, LimitNOFILE= of a service, or the container runtime's"}});
  settings.proxy.client_connections_max = clients;
}

int run(Settings settings) {
  Signals signals;
  LedgerClock env(system_env());
  log::start({settings.telemetry.log_level, settings.telemetry.log_format}, system_env());
  fit_into_descriptors(settings);
  if (auto redis = redis_endpoint(settings); redis && redis->is_plain_off_this_machine()) {
    log::warn("Redis is spoken to in plain text");
  }
  EventLoop loop(env);
  auto sidecar = Sidecar::create(loop, env, settings);
  if (!sidecar) return stop_with(sidecar.error());

  metrics::Registry registry;
  const auto process = metrics::collect_process(registry, "sidecar");
  const auto exported = registry.collect([&](metrics::Scrape& scrape) { (*sidecar)->export_metrics(scrape); });
  telemetry::Health health(env);
  (*sidecar)->declare(health);
  http::Router relays;
  add_relays(relays, settings.app_probes, settings.upstream, env);
  add_drain(relays, [&] { loop.post([&] { (*sidecar)->wind_down(); }); });
  auto admin = telemetry::AdminServer::start(settings.telemetry, registry, health, env, std::move(relays),
                                             static_cast<int>(settings.app_probes.size()));
  if (!admin) return stop_with(admin.error());

  if (auto started = (*sidecar)->start(); !started) return stop_with(started.error());
  log::info("listening", {{"address", (*sidecar)->address()}, {"admin", (*admin)->address()}});
  signals.watch(loop, [&] { (*sidecar)->drain([&loop] { loop.stop(); }); });
  loop.run();
  (*admin)->stop();
  log::info("stopped");
  log::stop();
  return EXIT_SUCCESS;
}

void declare_drain(config::OptionSet& options, config::ListenAddress& admin) {
  options.describe("The sidecar is not ready from then on, and closes each connection as it is answered; who comes is served until SIGTERM.");
  options.add("admin", &admin, config::listen_address()).env().fallback("127.0.0.1:9902").help("as `run` has it");
}

int drain(const config::ListenAddress& admin) {
  const auto asked = ask_to_drain(system_env(), admin);
  if (asked) return EXIT_SUCCESS;
  std::fprintf(stderr, "the sidecar cannot be told: %s\n", asked.error().message.c_str());
  return EXIT_FAILURE;
}

}  // namespace
}  // namespace tallygate::sidecar

int main(int argc, char** argv) {
  using namespace tallygate;
  forbid_core_dumps();
  config::CommandLine line("tallygate-sidecar", "billing enforcement in front of one app", TALLYGATE_VERSION);
  sidecar::Settings settings;
  sidecar::declare(line.command("run", "runs the sidecar"), settings);
  sidecar::InitSettings init;
  sidecar::declare_init(line.command("init", "captures a pod's inbound traffic for the sidecar, and ends"), init);
  config::ListenAddress admin;
  sidecar::declare_drain(line.command("drain", "tells a running sidecar that its pod ends; for a preStop hook"), admin);
  const auto choice = line.parse(argc, argv);
  if (!choice.should_run()) return choice.finish();
  if (choice.command == "init") return sidecar::run_init(init);
  if (choice.command == "drain") return sidecar::drain(admin);
  if (settings.telemetry.core_dumps) allow_core_dumps();
  return sidecar::run(std::move(settings));
}
