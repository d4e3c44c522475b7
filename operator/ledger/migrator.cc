#include "operator/ledger/migrator.h"

#include <map>

#include "core/sha256.h"

namespace tallygate::ledger {
namespace {

// Any fixed number that no other program uses on this database.
constexpr const char* kLock = "select pg_advisory_xact_lock(7231498012563)";

constexpr const char* kOwnDatabase = ": give the ledger a database of its own, and name it in --database-url";

Result<void> takes_writes(Transaction& transaction) {
  // Not where this session itself has asked to write nothing (verify).
  const auto rows = transaction.exec(
      "select pg_is_in_recovery(), current_setting('transaction_read_only') = 'on' and "
      "(select source <> 'session' from pg_settings where name = 'default_transaction_read_only')");
  if (!rows) return tl::unexpected(rows.error());
  if (rows->boolean(0, 0)) {
    return fail(Errc::kConflict,
                "the server is a standby and takes no writes: name the primary, or all servers with "
                "?target_session_attrs=read-write");
  }
  if (rows->boolean(0, 1)) {
    return fail(Errc::kConflict,
                "the database is read-only: default_transaction_read_only is on for the server, the database or the "
                "role; turn it off there");
  }
  return {};
}

// Whether a ledger can be made where there is none.
Result<void> can_begin(Transaction& transaction) {
  const auto rows = transaction.exec(
      "select current_user, coalesce(current_schema(), ''), "
      "coalesce(has_schema_privilege(current_schema(), 'CREATE'), false), to_regclass('tenants') is not null");
  if (!rows) return tl::unexpected(rows.error());
  const std::string role(rows->text(0, 0)), schema(rows->text(0, 1));
  if (rows->boolean(0, 3)) {
    return fail(Errc::kConflict,
                "another application lives in schema " + schema + ": it has a relation named tenants" + kOwnDatabase);
  }
  if (schema.empty()) {
    return fail(Errc::kConflict,
                "no schema of the search_path is there: create schema public, or mend the search_path of role " + role);
  }
  if (rows->boolean(0, 2)) return {};
  return fail(Errc::kConflict, "role " + role + " may create nothing in schema " + schema +
                                   ": GRANT CREATE ON SCHEMA " + schema + " TO " + role + ", or migrate as its owner");
}

Error with_fix(Error error) {
  if (error.message.find("42P07") != std::string::npos) {
    error.message += ": another application lives in this schema" + std::string(kOwnDatabase);
  } else if (error.message.find("permission denied") != std::string::npos) {
    error.message += ": use the role that owns the ledger, or grant this one what it lacks";
  }
  return error;
}

Result<bool> has_begun(Transaction& transaction) {
  const auto rows = transaction.exec("select to_regclass('schema_migrations') is not null");
  if (!rows) return tl::unexpected(rows.error());
  return rows->boolean(0, 0);
}

Result<std::map<std::string, std::string>> read_applied(Transaction& transaction) {
  Result<Rows> rows = transaction.exec("select name, sha256 from schema_migrations");
  if (!rows) return tl::unexpected(with_fix(std::move(rows.error())));
  std::map<std::string, std::string> applied;
  for (size_t i = 0; i < rows->size(); ++i) applied.emplace(rows->text(i, 0), rows->text(i, 1));
  return applied;
}

Result<void> check(const std::map<std::string, std::string>& applied, std::span<const Migration> migrations) {
  size_t known = 0;
  for (const Migration& migration : migrations) {
    const auto at = applied.find(std::string(migration.name));
    if (at == applied.end()) continue;
    ++known;
    if (at->second != sha256_hex(migration.sql)) {
      return fail(Errc::kConflict,
                  "migration " + std::string(migration.name) +
                      " was changed after it had been applied to this database (its SHA-256 is not the one in "
                      "schema_migrations); migrations are forward-only: restore the file and add a new one");
    }
  }
  if (known == applied.size()) return {};
  for (const auto& [name, sha] : applied) {
    bool mine = false;
    for (const Migration& migration : migrations) mine = mine || migration.name == name;
    if (!mine) {
      return fail(Errc::kConflict,
                  "the database has migration " + name +
                      ", which this program does not know: it is older than the schema; run the version that made "
                      "it, or a newer one");
    }
  }
  return {};
}

// Applies the first migration that is missing; empty where none is.
Result<std::string> apply_next(Session& session, std::span<const Migration> migrations) {
  std::string name;
  Result<void> result = session.transact([&](Transaction& transaction) -> Result<void> {
    if (Result<void> writes = takes_writes(transaction); !writes) return writes;
    Result<Rows> step = transaction.exec(kLock);
    if (!step) return tl::unexpected(step.error());
    const Result<bool> begun = has_begun(transaction);
    if (!begun) return tl::unexpected(begun.error());
    if (!*begun) {
      if (Result<void> may = can_begin(transaction); !may) return may;
    }
    step = transaction.exec(
        "create table if not exists schema_migrations (name text primary key, sha256 text not null, "
        "applied_at timestamptz not null default now())");
    if (!step) return tl::unexpected(with_fix(std::move(step.error())));
    Result<std::map<std::string, std::string>> applied = read_applied(transaction);
    if (!applied) return tl::unexpected(applied.error());
    if (Result<void> ok = check(*applied, migrations); !ok) return ok;
    for (const Migration& migration : migrations) {
      if (applied->contains(std::string(migration.name))) continue;
      step = transaction.exec(std::string(migration.sql));
      if (!step) {
        step.error().message = "migration " + std::string(migration.name) + ": " + step.error().message;
        return tl::unexpected(with_fix(std::move(step.error())));
      }
      step = transaction.exec("insert into schema_migrations (name, sha256) values ($1, $2)",
                              {migration.name, sha256_hex(migration.sql)});
      if (!step) return tl::unexpected(step.error());
      name = migration.name;
      return {};
    }
    return {};
  });
  if (!result) return tl::unexpected(result.error());
  return name;
}

}  // namespace

Result<void> check_writable(Session& session) { return session.transact(takes_writes); }

Result<std::vector<std::string>> migrate(Session& session, std::span<const Migration> migrations) {
  std::vector<std::string> names;
  while (true) {
    Result<std::string> name = apply_next(session, migrations);
    if (!name) return tl::unexpected(name.error());
    if (name->empty()) return names;
    names.push_back(std::move(*name));
  }
}

Result<void> check_schema(Session& session, std::span<const Migration> migrations) {
  return session.transact([&](Transaction& transaction) -> Result<void> {
    const Result<bool> begun = has_begun(transaction);
    if (!begun) return tl::unexpected(begun.error());
    if (!*begun) {
      if (Result<void> writes = takes_writes(transaction); !writes) return writes;
      if (Result<void> may = can_begin(transaction); !may) return may;
      return fail(Errc::kConflict,
                  "the database has no schema yet: run `tallygate-operator migrate`, or start with --migrate");
    }
    Result<std::map<std::string, std::string>> applied = read_applied(transaction);
    if (!applied) return tl::unexpected(applied.error());
    if (Result<void> ok = check(*applied, migrations); !ok) return ok;
    for (const Migration& migration : migrations) {
      if (!applied->contains(std::string(migration.name))) {
        return fail(Errc::kConflict, "migration " + std::string(migration.name) +
                                         " is missing: run `tallygate-operator migrate`, or start with --migrate");
      }
    }
    return {};
  });
}

}  // namespace tallygate::ledger
