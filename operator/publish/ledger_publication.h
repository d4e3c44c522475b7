// The publication's side in PostgreSQL: versions that only grow, and the tenants' terms, written before Redis hears of
// them. Threading: one thread at a time. Blocks.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/env.h"
#include "operator/ledger/session.h"
#include "operator/ledger/tenant_store.h"
#include "operator/publish/documents.h"
#include "operator/publish/redis_publication.h"

namespace tallygate::publish {

// Of everything that the ledger keeps of a tenant but its version.
Fingerprint terms_fingerprint(const tenant::Tenant& tenant, const plan::TenantBilling& billing);
ledger::TenantRecord record_of(const tenant::Tenant& tenant, const plan::TenantBilling& billing, int64_t version);

class LedgerPublication {
 public:
  LedgerPublication(Env& env, std::string database_url);

  // The last publication that was begun. The first call, and the first after forget(), begins a reign: what publishers
  // before this one still write is refused from then on.
  Result<Meta> last();
  int64_t reign() const { return reign_; }
  // How often the ledger was recovered from a backup, as of the last last() or begin().
  int64_t ledger_generation() const { return ledger_generation_; }
  // Reserves the next version, above `at_least`.
  Result<int64_t> begin(int64_t at_least, const std::string& generation);

  // Tenants that the ledger itself has suspended, with the reason that their requests are refused with.
  Result<Suspensions> suspensions();

  // Forgets what it knows of the ledger: the next changes() are of all tenants.
  void forget() {
    known_.reset();
    last_.reset();
    reign_ = 0;
  }
  struct TermChanges {
    std::vector<size_t> written;  // indexes into Compiled::tenants
    std::vector<TenantId> removed;
  };
  Result<TermChanges> changes(const plan::Compiled& compiled);
  // `versions`: of each written tenant, in their order. Of what was applied, `compiled` is kept for comparison.
  // kConflict: another publisher reigns by now; nothing more may be published before forget().
  Result<void> apply(const TermChanges& changes, std::shared_ptr<const plan::Compiled> compiled,
                     const std::vector<int64_t>& versions);

 private:
  Env& env_;
  ledger::Session session_;
  ledger::TenantStore store_;
  // Terms by tenant; a default fingerprint where the ledger has a tenant and nobody knows what of it.
  std::optional<std::map<std::string, Fingerprint>> known_;
  std::shared_ptr<const plan::Compiled> last_;  // whose terms the ledger has, all of them
  int64_t reign_ = 0;                           // 0: none yet
  int64_t ledger_generation_ = 0;
};

}  // namespace tallygate::publish
