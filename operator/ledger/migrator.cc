#include "operator/ledger/migrator.h"

#include <map>

#include "core/sha256.h"

namespace tallygate::ledger {
namespace {

// Any fixed number that no other program uses on this database.
constexpr const char* kLock = "select pg_advisory_xact_lock(7231498012563)";

Result<std::map<std::string, std::string>> read_applied(Transaction& transaction) {
  Result<Rows> rows = transaction.exec("select name, sha256 from schema_migrations");
  if (!rows) return tl::unexpected(rows.error());
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
      return fail(Errc::kConflict, "the database has migration " + name +
                                       ", which this program does not know: it is older than the schema");
    }
  }
  return {};
}

// Applies the first migration that is missing; empty where none is.
Result<std::string> apply_next(Session& session, std::span<const Migration> migrations) {
  std::string name;
  Result<void> result = session.transact([&](Transaction& transaction) -> Result<void> {
    Result<Rows> step = transaction.exec(kLock);
    if (!step) return tl::unexpected(step.error());
    step = transaction.exec(
        "create table if not exists schema_migrations (name text primary key, sha256 text not null, "
        "applied_at timestamptz not null default now())");
    if (!step) return tl::unexpected(step.error());
    Result<std::map<std::string, std::string>> applied = read_applied(transaction);
    if (!applied) return tl::unexpected(applied.error());
    if (Result<void> ok = check(*applied, migrations); !ok) return ok;
    for (const Migration& migration : migrations) {
      if (applied->contains(std::string(migration.name))) continue;
      step = transaction.exec(std::string(migration.sql));
      if (!step) {
        step.error().message = "migration " + std::string(migration.name) + ": " + step.error().message;
        return tl::unexpected(step.error());
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
    Result<Rows> exists = transaction.exec("select to_regclass('schema_migrations') is not null");
    if (!exists) return tl::unexpected(exists.error());
    if (!exists->boolean(0, 0))
      return fail(Errc::kConflict, "the database has no schema yet: run `tallygate-operator migrate`");
    Result<std::map<std::string, std::string>> applied = read_applied(transaction);
    if (!applied) return tl::unexpected(applied.error());
    if (Result<void> ok = check(*applied, migrations); !ok) return ok;
    for (const Migration& migration : migrations) {
      if (!applied->contains(std::string(migration.name))) {
        return fail(Errc::kConflict,
                    "migration " + std::string(migration.name) + " is missing: run `tallygate-operator migrate`");
      }
    }
    return {};
  });
}

}  // namespace tallygate::ledger
