// What was last accepted, kept by the ledger (migration 0046): read when a process starts, written before what changed is
// published. Threading: one thread at a time. Blocks; errors are ledger::Session's.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "operator/ledger/session.h"
#include "operator/source/acceptance.h"

namespace tallygate::source {

class AcceptedStore {
 public:
  explicit AcceptedStore(std::string database_url) : session_(std::move(database_url)) {}

  // What this program cannot read any more is left out, and told in the log.
  Result<Baseline> load();
  // Writes what differs from what is kept, in one transaction. kConflict: another publisher than `reign` reigns by now.
  Result<void> keep(const manifest::Resources& resources, const std::string& cluster, int64_t reign, int64_t now_ns);

 private:
  struct Kept {
    std::string file, uid;
    int64_t generation = 0;
    std::shared_ptr<const std::string> text;
    bool operator==(const Kept& o) const;
  };
  using KeptObjects = std::map<std::string, Kept>;
  Result<KeptObjects> read();
  static KeptObjects of(const manifest::Resources& resources);

  ledger::Session session_;
  std::optional<KeptObjects> kept_;  // what the ledger has, of `reign_`
  std::string cluster_;
  int64_t reign_ = 0;
};

}  // namespace tallygate::source
