// The API alone, as a process that tests may kill: api_test_server DATABASE_URL PORT TOKENS_FILE CONNECTIONS. Prints
// "listening on ADDRESS"; ends with SIGTERM.
#include <signal.h>

#include <cstdio>

#include "core/telemetry/log.h"
#include "tests/integration/api/world.h"

int main(int argc, char** argv) {
  using namespace tallygate;
  if (argc != 5) return 64;
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  log::start({.level = log::Level::kError}, system_env());
  api::ApiSettings settings;
  settings.listen = config::ListenAddress{"127.0.0.1", static_cast<uint16_t>(std::stoi(argv[2]))};
  settings.service_tokens_file = argv[3];
  settings.connections = std::stoi(argv[4]);
  settings.rate_per_second = settings.rate_burst = 1'000'000;
  metrics::Registry registry;
  auto server = api::ApiServer::create(system_env(), argv[1], std::nullopt, settings, registry);
  if (!server) return 1;
  (*server)->offer(tallygate::testing::sample_manifests(system_env().wall_s()));
  if (!(*server)->start()) return 1;
  std::printf("listening on %s\n", (*server)->address().c_str());
  std::fflush(stdout);
  int number = 0;
  sigwait(&ends, &number);
  (*server)->stop();
  log::stop();
  return 0;
}
