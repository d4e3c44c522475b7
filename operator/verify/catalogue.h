// What a database's schema consists of, as PostgreSQL itself describes it: one query, run on the migrated database of a
// test for the golden list tests/golden/schema.txt, and by `verify` on a deployment. Nobody keeps the list by hand.
//
// A line of the list: kind, name and definition with tabs between. Monthly partitions of usage are left out: their
// number depends on the date.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "operator/ledger/session.h"

namespace tallygate::verify {

struct Entry {
  std::string kind;  // server, table, column, index, constraint, function, trigger, rls, policy, grant, role
  std::string name;  // of a function with its parameters' types; "table.name" of what belongs to a table
  std::string definition;
  bool operator==(const Entry&) const = default;
};

// Ordered by kind and name.
Result<std::vector<Entry>> read_catalogue(ledger::Session& session);

std::string to_text(const std::vector<Entry>& entries);
std::vector<Entry> parse_catalogue(std::string_view text);

// tests/golden/schema.txt, embedded at build time.
std::string_view golden_schema();

// The last migration that names the object, for people who repair one: "migrations/0006_booking.sql"; "migrations/"
// where none does.
std::string migration_of(const Entry& entry);

}  // namespace tallygate::verify
