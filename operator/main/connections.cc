#include "operator/main/connections.h"

#include <algorithm>

namespace tallygate::operator_main {
namespace {

// Those whose details a role may not see count as clients: they are some other's.
constexpr const char* kRoom = R"sql(
with me as (select usesysid, client_addr, application_name from pg_stat_activity where pid = pg_backend_pid()),
     them as (select * from pg_stat_activity
              where usesysid is not null and datid is not null and coalesce(backend_type, 'client backend') = 'client backend')
select current_setting('max_connections')::int,
       case when r.rolsuper then 0
            else current_setting('superuser_reserved_connections')::int
                 + coalesce(current_setting('reserved_connections', true)::int, 0) end,
       (select count(*) from them),
       (select count(*) from them t, me
        where t.usesysid = me.usesysid and t.application_name = me.application_name
          and t.client_addr is not distinct from me.client_addr),
       case when r.rolsuper then -1 else r.rolconnlimit end,
       (select count(*) from them t where t.usesysid = r.oid),
       case when r.rolsuper then -1 else d.datconnlimit end,
       (select count(*) from them t where t.datid = d.oid),
       current_user
from pg_roles r, pg_database d
where r.rolname = current_user and d.datname = current_database())sql";

}  // namespace

int64_t connections_needed(const RunSettings& s) {
  const bool controls = s.has(Role::kController), serves = s.api.listen.has_value();
  int64_t needed = 2;  // the probe, who leads
  if (s.has(Role::kPipeline)) {
    needed += 6;  // epochs, funding, pump, aggregation, periodic jobs, billing metrics
    if (s.stripe == Stripe::kEnabled) ++needed;
  }
  if (controls || serves) ++needed;  // what was last accepted, read
  if (controls) {
    needed += 2;                                 // the same, kept; publication
    if (s.source.tag == "kubernetes") ++needed;  // the ledger's figures of tenants
  }
  // Events of Stripe: each worker, who looks at the queue, and who looks for those that never came.
  if (s.stripe == Stripe::kEnabled && !s.payments.webhook_secrets.empty()) needed += s.payments.webhook_workers + 2;
  if (serves && s.api.database_url.text.empty()) needed += s.api.connections;
  return needed;
}

Result<std::string> lack_of_connections(ledger::Session& session, int64_t needed) {
  const auto rows = session.exec(kRoom);
  if (!rows) return tl::unexpected(rows.error());
  if (rows->empty()) return std::string();
  enum Column : size_t { kMax, kReserved, kUsed, kOwn, kRoleMax, kRoleUsed, kDatabaseMax, kDatabaseUsed, kRole };
  const auto at = [&](Column column) { return rows->integer(0, column); };
  const int64_t own = std::min(at(kOwn), needed);
  int64_t left = at(kMax) - at(kReserved) - at(kUsed);
  std::string of = "max_connections is " + std::to_string(at(kMax)) + ", " + std::to_string(at(kReserved)) +
                   " are reserved, " + std::to_string(at(kUsed) - own) + " are others'";
  std::string fix = "raise max_connections";
  const auto bounded_by = [&](int64_t most, int64_t used, std::string what, std::string statement) {
    if (most < 0 || most - used >= left) return;
    left = most - used;
    of = what + " is " + std::to_string(most) + ", " + std::to_string(used - own) + " are others'";
    fix = "raise it (" + statement + " … CONNECTION LIMIT)";
  };
  bounded_by(at(kRoleMax), at(kRoleUsed), "the CONNECTION LIMIT of role " + std::string(rows->text(0, kRole)),
             "ALTER ROLE");
  bounded_by(at(kDatabaseMax), at(kDatabaseUsed), "the database's CONNECTION LIMIT", "ALTER DATABASE");
  if (left + own >= needed) return std::string();
  return "this operator needs " + std::to_string(needed) + " connections, and can have " +
         std::to_string(std::max<int64_t>(0, left + own)) + ": " + of + "; " + fix + ", or lower --api-connections";
}

}  // namespace tallygate::operator_main
