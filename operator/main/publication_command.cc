#include "operator/main/publication_command.h"

#include <cstdio>

#include "operator/ledger/migrator.h"
#include "operator/publish/publication_keys.h"

namespace tallygate::operator_main {
namespace {

int failed(const std::string& error) {
  std::fprintf(stderr, "tallygate-operator publication: %s\n", error.c_str());
  return 1;
}

int print_keys(Env& env, const PublicationSettings& settings) {
  const auto keys = publish::PublicationKeys(env, settings.database.url.text, settings.key_file).load();
  if (!keys) return failed(keys.error().message);
  std::fputs(keys->public_pem().c_str(), stdout);
  std::fprintf(stderr, "signs: %s; trusted beside it: %zu\n", keys->signer.public_key().id().c_str(), keys->others.size());
  return std::fflush(stdout) == 0 ? 0 : 1;
}

int prepare(Env& env, ledger::Session& session, const PublicationSettings& settings) {
  const auto id = publish::prepare_key(env, session, settings.actor);
  if (!id) return failed(id.error().message);
  if (id->empty()) return failed("a key is prepared already: `publication rotate` puts it in use");
  std::printf("prepared %s\n", id->c_str());
  std::puts("Injected sidecars learn of it within minutes (their Secret, then their kubelet); give the others what\n"
            "`publication key` prints. Then `publication rotate`.");
  return 0;
}

int rotate(ledger::Session& session, const PublicationSettings& settings) {
  const auto id = publish::rotate_key(session, settings.actor);
  if (!id) return failed(id.error().message);
  if (id->empty()) return failed("no key is prepared: `publication prepare` makes one, and sidecars must know it first");
  std::printf("signs now %s\n", id->c_str());
  std::puts("Everything is published again by it within seconds. Once no sidecar needs the former key, `publication retire`.");
  return 0;
}

int retire(ledger::Session& session, const PublicationSettings& settings) {
  const auto count = publish::retire_keys(session, settings.actor);
  if (!count) return failed(count.error().message);
  std::printf("retired %lld\n", static_cast<long long>(*count));
  return 0;
}

}  // namespace

int publication_command(Env& env, const std::string& command, const PublicationSettings& settings) {
  ledger::Session session(settings.database.url.text);
  if (const auto schema = ledger::check_schema(session); !schema) return failed(schema.error().message);
  if (command == "publication prepare") return prepare(env, session, settings);
  if (command == "publication rotate") return rotate(session, settings);
  if (command == "publication retire") return retire(session, settings);
  return print_keys(env, settings);
}

}  // namespace tallygate::operator_main
