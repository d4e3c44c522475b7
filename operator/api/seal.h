// Numbers of the ledger, as a tenant may see them. Transactions of all tenants have theirs from one sequence: who sees
// two of his own knows how much all others did in between. So they are shown permuted, by the ledger's own key and for
// each tenant another way: a Feistel network over 62 bits, with SHA-256. The same number is always shown alike, two
// never are, and what is shown can be opened again (cursors). Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "operator/api/fields.h"

namespace tallygate::api {

struct Call;

class Seal {
 public:
  explicit Seal(std::string key) : key_(std::move(key)) {}
  // Of 0 to 2^48 − 1: the ledger's numbers stay below that for a thousand years of a thousand a millisecond.
  int64_t close(std::string_view tenant, int64_t number) const;
  // Nothing where no number of this tenant's looks so.
  std::optional<int64_t> open(std::string_view tenant, int64_t shown) const;

 private:
  uint32_t mixed(std::string_view tenant, int round, uint32_t half) const;
  const std::string key_;
};

// As the call's tenant sees it: "" for 0, which is none.
std::string shown_number(const Call& call, int64_t number);
// A row's place in a list, for the client to come back with, and back again; a fault of `fields` where it is none.
std::string list_cursor(const Call& call, char kind, int64_t place);
std::optional<int64_t> read_list_cursor(const Call& call, Fields& fields, char kind);

}  // namespace tallygate::api
