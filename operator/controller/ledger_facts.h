// What the ledger says of tenants, asked of many at once, and which of them have something new to say. Threading: one
// thread at a time. Blocks.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "operator/controller/reconcile.h"
#include "operator/ledger/session.h"

namespace tallygate::controller {

class LedgerFacts {
 public:
  explicit LedgerFacts(std::string database_url) : session_(std::move(database_url)) {}

  struct Ask {
    std::string tenant, currency;
    std::vector<std::string> buckets;
  };
  // By tenant; of each that is asked for. `suspended`: of suspended().
  Result<std::map<std::string, TenantFacts>> read(const std::vector<Ask>& asks,
                                                  const std::map<std::string, std::string>& suspended);
  // Tenants whose wallet is suspended, and why.
  Result<std::map<std::string, std::string>> suspended();

  // Tenants with aggregated usage or postings of their own since the last call (some of them told twice: what commits late
  // is not missed). The first call tells nobody: ask of all then.
  Result<std::vector<std::string>> changed(int64_t now_ms);

  // Those of `tenants` that are removed, and all of whose usage that reached the ledger is aggregated.
  Result<std::set<std::string>> settled(const std::vector<std::string>& tenants);
  // For the audit log: the tenant's object was let go.
  Result<void> note_end(const std::string& tenant, const std::string& uid, const std::string& what, int64_t now_ns);

 private:
  ledger::Session session_;
  struct Mark {  // the newest there was at that time
    int64_t at_ms = 0, transfer = 0, aggregate = 0;
  };
  std::deque<Mark> marks_;
};

}  // namespace tallygate::controller
