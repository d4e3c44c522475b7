#include "operator/main/migrate.h"

#include <cstdio>

#include "operator/ledger/migrator.h"

namespace tallygate::operator_main {
namespace {
constexpr int64_t kRetryMs = 500;
}  // namespace

int migrate(Env& env, const MigrateSettings& settings) {
  ledger::Session session(settings.database.url.text);
  const int64_t until_ms = env.mono_ms() + settings.wait_ms;
  auto applied = ledger::migrate(session);
  while (!applied && applied.error().errc == Errc::kUnavailable && env.mono_ms() < until_ms) {
    env.sleep_ms(kRetryMs);
    applied = ledger::migrate(session);
  }
  if (!applied) {
    std::fprintf(stderr, "tallygate-operator migrate: %s\n", applied.error().message.c_str());
    return 1;
  }
  for (const auto& name : *applied) std::printf("applied %s\n", name.c_str());
  if (applied->empty()) std::puts("nothing to apply: the schema is up to date");
  return 0;
}

}  // namespace tallygate::operator_main
