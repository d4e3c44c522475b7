// tallygate-operator: command line → settings → log → parts → until a signal → orderly end.
#include <signal.h>

#include <array>
#include <tuple>

#include "core/core_dumps.h"
#include "core/telemetry/log.h"
#include "operator/api/wallet_command.h"
#include "operator/main/key_new.h"
#include "operator/main/ledger_command.h"
#include "operator/main/migrate.h"
#include "operator/main/operator.h"
#include "operator/main/publication_command.h"
#include "operator/main/settings.h"
#include "operator/main/signals.h"
#include "operator/main/verify.h"
#include "operator/stripe/events_command.h"

int main(int argc, char** argv) {
  using namespace tallygate;
  forbid_core_dumps();
  operator_main::RunSettings run;
  operator_main::MigrateSettings migrate;
  operator_main::VerifySettings verify;
  operator_main::LedgerSettings ledger_asked, ledger_recovered;
  config::CommandLine commands("tallygate-operator", "billing enforcement for Kubernetes: the control plane",
                               TALLYGATE_VERSION);
  declare_run(commands.command("run", "runs the operator"), run);
  declare_migrate(commands.command("migrate", "applies pending migrations to the database and ends"), migrate);
  declare_verify(commands.command("verify", "checks a deployment: PostgreSQL, Redis, Stripe"), verify);
  declare_ledger_status(commands.command("ledger status", "says whether the ledger has gone back to a backup"),
                        ledger_asked);
  declare_ledger_recover(commands.command("ledger recover", "takes a restored ledger back into service"),
                         ledger_recovered);

  commands.command("key new", "makes an API key for a tenant's client, and its hash for the manifest")
      .describe("Prints a new key of 128 bits and its SHA-256, as BillingTenant's spec.identity.apiKeyHashes has it.");

  std::array<operator_main::PublicationSettings, 4> publications;
  const char* publication_commands[] = {"publication key", "publication prepare", "publication rotate",
                                        "publication retire"};
  declare_publication_key(
      commands.command(publication_commands[0], "prints the public keys of what is published, for sidecars"),
      publications[0]);
  declare_publication_change(
      commands.command(publication_commands[1], "makes the next key that will sign the publication"),
      "Makes a key that sidecars trust from now on, and that signs once it is rotated in.", publications[1]);
  declare_publication_change(
      commands.command(publication_commands[2], "puts the prepared key in use"),
      "The prepared key signs from now on, and everything is published again; the one before it stays trusted.",
      publications[2]);
  declare_publication_change(commands.command(publication_commands[3], "ends the trust in former keys"),
                             "Sidecars are no longer told of keys that have signed before.", publications[3]);

  const std::pair<std::string, api::WalletAction> wallet_commands[] = {{"wallet credit", api::WalletAction::kCredit},
                                                                       {"wallet adjust", api::WalletAction::kAdjust},
                                                                       {"wallet show", api::WalletAction::kShow},
                                                                       {"wallet history", api::WalletAction::kHistory},
                                                                       {"wallet close", api::WalletAction::kClose}};
  const char* wallet_summaries[] = {"adds credit to a tenant's wallet", "corrects a wallet, up or down",
                                    "prints a wallet's balance and holds",
                                    "prints what changed a wallet, newest first",
                                    "closes a wallet that is empty"};
  std::array<api::WalletSettings, std::size(wallet_commands)> wallets;
  static_assert(std::size(wallet_summaries) == std::size(wallet_commands));
  for (size_t i = 0; i < wallets.size(); ++i) {
    api::declare_wallet(commands.command(wallet_commands[i].first, wallet_summaries[i]), wallet_commands[i].second,
                        wallets[i]);
  }

  using stripe::EventsAction;
  const std::tuple<const char*, const char*, EventsAction> event_commands[] = {
      {"stripe events list", "lists Stripe's events as the ledger keeps them, newest first", EventsAction::kList},
      {"stripe events show", "prints one of them, and what became of it", EventsAction::kShow},
      {"stripe events replay", "has one worked on once more", EventsAction::kReplay}};
  std::array<stripe::EventsSettings, 3> events;
  for (size_t i = 0; i < events.size(); ++i) {
    const auto& [name, summary, action] = event_commands[i];
    stripe::declare_events(commands.command(name, summary), action, events[i]);
  }

  const auto choice = commands.parse(argc, argv);
  if (!choice.should_run()) return choice.finish();
  if (choice.command == "migrate") return operator_main::migrate(system_env(), migrate);
  if (choice.command == "key new") return operator_main::key_new(system_env());
  if (choice.command == "verify") return operator_main::verify(system_env(), verify);
  if (choice.command == "ledger status") return operator_main::ledger_status(system_env(), ledger_asked);
  if (choice.command == "ledger recover") return operator_main::ledger_recover(system_env(), ledger_recovered);
  for (size_t i = 0; i < publications.size(); ++i) {
    if (choice.command != publication_commands[i]) continue;
    return operator_main::publication_command(system_env(), choice.command, publications[i]);
  }
  for (size_t i = 0; i < wallets.size(); ++i) {
    if (choice.command != wallet_commands[i].first) continue;
    return api::run_wallet_command(system_env(), wallet_commands[i].second, wallets[i]);
  }

  for (size_t i = 0; i < events.size(); ++i) {
    const auto& [name, summary, action] = event_commands[i];
    if (choice.command == name) return stripe::run_events_command(system_env(), action, events[i]);
  }

  if (run.telemetry.core_dumps) allow_core_dumps();
  ::signal(SIGPIPE, SIG_IGN);
  operator_main::block_signals({SIGTERM, SIGINT});
  log::start({.level = run.telemetry.log_level, .format = run.telemetry.log_format}, system_env());
  const int exit_code = operator_main::Operator(system_env(), run).run();
  log::stop();
  return exit_code;
}
