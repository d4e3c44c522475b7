// The keys that the publication is signed with: the ledger's own, made once by the operator that leads first, or those of a
// file (a mounted Secret).
//
// The file: one PEM block PRIVATE KEY, which signs, and any number of blocks PUBLIC KEY that sidecars are to trust beside
// it, while one takes another's place.
// Threading: one thread at a time. Blocks.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/env.h"
#include "core/redis_contract/signature.h"
#include "operator/ledger/session.h"

namespace tallygate::publish {

struct Keys {
  redis_contract::Signer signer;
  std::vector<redis_contract::PublicKey> others;  // trusted too: the next one, former ones
  // What sidecars get as their file: PEM, the signer's first.
  std::string public_pem() const;
};
Result<Keys> keys_of_file(const std::string& path);

class PublicationKeys {
 public:
  // `file` empty: the ledger's.
  PublicationKeys(Env& env, std::string database_url, std::string file);
  // As they are now; makes the ledger's first where there is none.
  Result<Keys> load();

 private:
  Result<Keys> load_ledgers();
  Env& env_;
  ledger::Session session_;
  const std::string file_;
};

// For the commands, on the ledger's keys. Each is audited. The id of the key, or empty where there was nothing to do.
Result<std::string> prepare_key(Env& env, ledger::Session& session, const std::string& actor);
Result<std::string> rotate_key(ledger::Session& session, const std::string& actor);
Result<int64_t> retire_keys(ledger::Session& session, const std::string& actor);

}  // namespace tallygate::publish
