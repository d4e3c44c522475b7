#include <algorithm>
#include <map>

#include "operator/ledger/migrator.h"
#include "operator/verify/catalogue.h"
#include "operator/verify/checks.h"

namespace tallygate::verify {
namespace {

constexpr size_t kRowsPerKind = 20;  // of one kind of object; the rest is counted
constexpr size_t kSample = 20;       // tenants, customers, differences of the audit
// Looks only, and does not wait for ever behind somebody's lock.
constexpr const char* kSetup =
    "set default_transaction_read_only = on; set lock_timeout = '10s'; set statement_timeout = '120s'";

const std::pair<const char*, const char*> kKinds[] = {
    {"table", "tables"},       {"column", "columns"},   {"index", "indexes"},          {"constraint", "constraints"},
    {"function", "functions"}, {"trigger", "triggers"}, {"rls", "row-level security"}, {"policy", "policies"},
    {"grant", "grants"},       {"role", "roles"}};

std::string fix_of(const Entry& entry, bool unexpected) {
  if (unexpected) return "drop it, or put it into a migration";
  if (entry.kind == "rls") return "alter table " + entry.name + " enable row level security, force row level security";
  if (entry.kind == "role")
    return "as a superuser: create role " + entry.name + " nologin; then its grants, from migrations/0024_roles.sql";
  return "it was changed after it had been migrated: restore it as " + migration_of(entry) + " has it";
}

// What no migration makes may lie beside our own, but nothing that opens a table of ours.
bool matters_when_unexpected(const Entry& entry, const std::map<std::string, std::string>& tables) {
  if (entry.kind != "policy" && entry.kind != "trigger" && entry.kind != "grant") return false;
  return tables.contains(entry.name.substr(0, entry.name.find_first_of(". ")));
}

using ByName = std::map<std::string, std::map<std::string, std::string>>;  // kind → name → definition

ByName by_name(const std::vector<Entry>& entries) {
  ByName out;
  for (const Entry& entry : entries) {
    std::string& definition = out[entry.kind][entry.name];
    definition += (definition.empty() ? "" : "; ") + entry.definition;
  }
  return out;
}

class KindCheck {
 public:
  KindCheck(std::string kind, std::string plural, Report& report)
      : kind_(std::move(kind)), plural_(std::move(plural)), report_(report) {}

  void compare(const std::map<std::string, std::string>& expected, const std::map<std::string, std::string>& found,
               const std::map<std::string, std::string>& tables) {
    for (const auto& [name, definition] : expected) {
      const auto at = found.find(name);
      if (at != found.end() && at->second == definition) continue;
      const Entry entry{kind_, name, definition};
      if (at == found.end()) {
        fault(entry, Outcome::kMissing, definition.empty() ? "not there" : "not there: " + definition, false);
      } else {
        fault(entry, Outcome::kWrong, "is: " + at->second + "; must be: " + definition, false);
      }
    }
    for (const auto& [name, definition] : found) {
      const Entry entry{kind_, name, definition};
      if (expected.contains(name) || !matters_when_unexpected(entry, tables)) continue;
      fault(entry, Outcome::kWrong, "no migration makes it: " + definition, true);
    }
    if (faults_ == 0) report_.ok("postgres: " + plural_, std::to_string(expected.size()) + " as they must be");
    if (faults_ > kRowsPerKind) {
      report_.wrong("postgres: " + plural_, std::to_string(faults_ - kRowsPerKind) + " more differ",
                    "put the ones above right, then verify again");
    }
  }

 private:
  void fault(const Entry& entry, Outcome outcome, std::string detail, bool unexpected) {
    if (++faults_ > kRowsPerKind) return;
    const std::string check = "postgres: " + kind_ + " " + entry.name;
    if (outcome == Outcome::kMissing) {
      report_.missing(check, std::move(detail), fix_of(entry, unexpected));
    } else {
      report_.wrong(check, std::move(detail), fix_of(entry, unexpected));
    }
  }
  std::string kind_, plural_;
  Report& report_;
  size_t faults_ = 0;
};

void check_catalogue(ledger::Session& session, Report& report) {
  const auto entries = read_catalogue(session);
  if (!entries) {
    report.wrong("postgres: catalogue", entries.error().message, "let this user read PostgreSQL's catalogue");
    return;
  }
  ByName expected = by_name(parse_catalogue(golden_schema()));
  ByName found = by_name(*entries);
  // Another version may word a definition otherwise: then people must know before they repair what is not broken.
  const std::string made_on = expected["server"]["major"], runs = found["server"]["major"];
  if (made_on != runs) {
    report.skipped("postgres: wording", "definitions are compared with those of PostgreSQL " + made_on + "; this is " +
                                            runs + ", which may word some of them otherwise");
  }
  for (const auto& [kind, plural] : kKinds) {
    KindCheck(kind, plural, report).compare(expected[kind], found[kind], expected["table"]);
  }
}

void check_partitions(ledger::Session& session, Report& report) {
  const auto rows = session.exec(
      "select c.relname, c.relrowsecurity and c.relforcerowsecurity from pg_inherits i join pg_class c on c.oid = "
      "i.inhrelid where i.inhparent = to_regclass('usage_records') order by 1");
  if (!rows) return report.wrong("postgres: partitions", rows.error().message, "");
  if (rows->empty()) {
    return report.missing("postgres: partitions", "usage_records has none, so that no usage can be booked",
                          "run `select ensure_usage_partitions(now())`");
  }
  std::vector<std::string> open;
  for (size_t i = 0; i < rows->size(); ++i) {
    if (!rows->boolean(i, 1)) open.emplace_back(rows->text(i, 0));
  }
  if (open.empty()) {
    return report.ok("postgres: partitions",
                     std::to_string(rows->size()) + " of usage_records, all under row-level security");
  }
  report.wrong("postgres: partitions", "row-level security is not enabled and forced on " + listed(open, open.size()),
               "run `select secure_tables()`");
}

void check_memberships(ledger::Session& session, Report& report) {
  size_t roles = 0, held = 0;
  std::string user;
  for (const Entry& entry : parse_catalogue(golden_schema())) {
    if (entry.kind != "role") continue;
    ++roles;
    const auto rows = session.exec(
        "select current_user, exists (select from pg_roles r where r.rolname = $1 and pg_has_role(current_user, r.oid, "
        "'usage'))",
        {entry.name});
    if (!rows) return report.wrong("postgres: memberships", rows.error().message, "");
    user = rows->text(0, 0);
    if (rows->boolean(0, 1)) {
      ++held;
    } else {
      report.missing("postgres: membership in " + entry.name, "the user " + user + " is no member",
                     "as a superuser: grant " + entry.name + " to " + user);
    }
  }
  if (held == roles)
    report.ok("postgres: memberships", user + " is a member of all " + std::to_string(roles) + " roles");
}

void check_audit(ledger::Session& session, Report& report) {
  const auto rows = session.exec(
      "select check_name, coalesce(tenant, ''), coalesce(commodity, ''), expected, actual, detail, count(*) over () "
      "from ledger_audit() limit $1",
      {kSample});
  if (!rows) {
    return report.wrong("ledger audit", "it cannot be run: " + rows.error().message, "put the schema right first");
  }
  if (rows->empty()) return report.ok("ledger audit", "no difference");
  for (size_t i = 0; i < rows->size(); ++i) {
    const auto text = [&](size_t column) { return std::string(rows->text(i, column)); };
    report.wrong(
        "ledger audit: " + text(0),
        "tenant '" + text(1) + "', " + text(2) + ": expected " + text(3) + ", is " + text(4) + " (" + text(5) + ")",
        i == 0 ? "stop writers that are not Tallygate's and look into it before anything else: " +
                     std::to_string(rows->integer(0, 6)) + " in all"
               : "");
  }
}

void check_history(ledger::Session& session, Report& report) {
  const char* check = "ledger history";
  const auto rows = session.exec(
      "select generation, mark, coalesce(behind_reason, ''), (select count(*) from usage_gaps where resolved_at is "
      "null) from ledger_history");
  if (!rows) return report.wrong(check, rows.error().message, "put the schema right first");
  if (rows->empty()) return report.missing(check, "ledger_history has no row", "run `tallygate-operator migrate`");
  const std::string behind(rows->text(0, 2));
  if (!behind.empty()) {
    return report.wrong(check, "it has gone back: " + behind,
                        "docs/runbooks/ledger-restore.md; then `tallygate-operator ledger recover`");
  }
  if (rows->integer(0, 3) > 0) {
    return report.wrong(check, "booked records of " + std::to_string(rows->integer(0, 3)) + " sidecars are missing",
                        "wait: they are sent again, or given up; `tallygate-operator ledger status` says when");
  }
  report.ok(check, "mark " + std::to_string(rows->integer(0, 1)) + ", recovered " +
                       std::to_string(rows->integer(0, 0)) + " times");
}

std::vector<std::string> texts(const ledger::Rows& rows) {
  std::vector<std::string> out;
  for (size_t i = 0; i < rows.size(); ++i) out.emplace_back(rows.text(i, 0));
  return out;
}

Result<LedgerFacts> facts_of(ledger::Session& session) {
  LedgerFacts facts;
  const std::string of_invoice =
      " from tenant_meters m join tenants t on t.id = m.tenant where t.deleted_at is null and m.settlement = "
      "'invoice' ";
  const auto done = session.transact([&](ledger::Transaction& work) -> Result<void> {
    facts = {};
    const auto read = [&](const std::string& sql, auto&& use) -> Result<void> {
      const auto rows = work.exec(sql);
      if (!rows) return tl::unexpected<Error>(rows.error());
      use(*rows);
      return {};
    };
    return read("select number from shard_epochs order by shard",
                [&](const ledger::Rows& rows) {
                  for (size_t i = 0; i < rows.size(); ++i) facts.epochs.push_back(rows.integer(i, 0));
                })
        .and_then([&] {
          return read("select id from ledger_history",
                      [&](const ledger::Rows& rows) { facts.ledger = rows.empty() ? "" : rows.text(0, 0); });
        })
        .and_then([&] {
          return read("select generation, version from publication", [&](const ledger::Rows& rows) {
            if (rows.empty()) return;
            facts.generation = rows.text(0, 0);
            facts.version = rows.integer(0, 1);
          });
        })
        .and_then([&] {
          return read("select id from tenants where deleted_at is null order by id limit " + std::to_string(kSample),
                      [&](const ledger::Rows& rows) { facts.tenants = texts(rows); });
        })
        .and_then([&] {
          return read("select distinct m.meter" + of_invoice + "order by 1",
                      [&](const ledger::Rows& rows) { facts.meters = texts(rows); });
        })
        .and_then([&] {
          return read("select c, count(*) over () from (select distinct m.stripe_customer_id as c" + of_invoice +
                          "and m.stripe_customer_id <> '') x order by 1 limit " + std::to_string(kSample),
                      [&](const ledger::Rows& rows) {
                        facts.customers = texts(rows);
                        facts.customers_in_all = rows.empty() ? 0 : rows.integer(0, 1);
                      });
        })
        .and_then([&] {
          return read("select distinct m.tenant" + of_invoice + "and m.stripe_customer_id = '' order by 1 limit " +
                          std::to_string(kSample),
                      [&](const ledger::Rows& rows) { facts.without_customer = texts(rows); });
        });
  });
  if (!done) return tl::unexpected<Error>(done.error());
  return facts;
}

// What ended epochs still hold: a loss of Redis costs no money, but its units wait.
void check_holds(ledger::Session& session, Report& report) {
  const char* check = "postgres: units on hold";
  const auto rows = session.exec(
      "select count(*), coalesce(sum(x.funded + x.lent - x.booked - x.recalled - x.written_off), 0)::bigint "
      "from escrow_floats x join escrow_accounts a on a.id = x.account join tenants t on t.id = a.tenant "
      "join shard_epochs s on s.shard = t.shard where x.epoch < s.number and (a.window_end is null or a.window_end > "
      "now()) "
      "and x.funded + x.lent > x.booked + x.recalled + x.written_off");
  if (!rows) return report.wrong(check, rows.error().message, "let this user read escrow_floats and escrow_accounts");
  if (rows->integer(0, 0) == 0) return report.ok(check, "none of an ended epoch");
  report.ok(check, std::to_string(rows->integer(0, 1)) + " in " + std::to_string(rows->integer(0, 0)) +
                       " buckets, since Redis lost them: a limit's until its window ends, a wallet's for an hour");
}

}  // namespace

std::string listed(const std::vector<std::string>& names, size_t in_all) {
  constexpr size_t kNamed = 5;
  std::string text;
  const size_t named = std::min(names.size(), kNamed);
  for (size_t i = 0; i < named; ++i) text += (i ? ", " : "") + names[i];
  if (in_all > named) text += " and " + std::to_string(in_all - named) + " more";
  return text;
}

Result<LedgerFacts> read_facts(const std::string& database_url) {
  ledger::Session session(database_url, kSetup);
  return facts_of(session);
}

std::optional<LedgerFacts> check_postgres(const std::string& database_url, Report& report) {
  ledger::Session session(database_url, kSetup);
  const auto version = session.exec("select current_setting('server_version'), current_user, current_database()");
  if (!version) {
    report.missing("postgres: reachable", version.error().message, "check --database-url, and that PostgreSQL is up");
    report.skipped("postgres: everything else", "PostgreSQL did not answer");
    return std::nullopt;
  }
  report.ok("postgres: reachable", "PostgreSQL " + std::string(version->text(0, 0)) + ", database " +
                                       std::string(version->text(0, 2)) + " as " + std::string(version->text(0, 1)));
  if (const auto schema = ledger::check_schema(session); !schema) {
    const bool known = schema.error().errc == Errc::kConflict;
    report.wrong("postgres: migrations", schema.error().message,
                 known ? "run `tallygate-operator migrate` of the same release as this program"
                       : "let this user read schema_migrations");
    report.skipped("postgres: everything else", "the schema is not this program's");
    return std::nullopt;
  }
  report.ok("postgres: migrations", std::to_string(ledger::embedded_migrations().size()) + " applied, none changed");
  check_catalogue(session, report);
  check_partitions(session, report);
  check_memberships(session, report);
  check_audit(session, report);
  check_holds(session, report);
  check_history(session, report);
  auto facts = facts_of(session);
  if (!facts) {
    report.wrong("postgres: contents", facts.error().message, "put the schema right first");
    return std::nullopt;
  }
  return std::move(*facts);
}

}  // namespace tallygate::verify
