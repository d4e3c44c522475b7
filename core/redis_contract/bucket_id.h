// The name of a bucket: which account of the ledger its units belong to. Formed by sidecars, parsed by the ledger.
//   <limit>@<start>+<length>   a window of a limit; both in Unix seconds
//   <meter>$                   units of a wallet-settled meter, already paid for by the float
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"

namespace tallygate::redis_contract {

struct BucketId {
  std::string name;      // the limit's, or for a wallet bucket the meter's
  bool wallet = false;
  int64_t start_s = 0;   // 0 for wallets
  int64_t length_s = 0;  // 0 for wallets
  bool operator==(const BucketId&) const = default;

  std::string str() const;
  static Result<BucketId> parse(std::string_view text);
  // Windows shorter than an hour live in Redis alone: the ledger has no account for them.
  bool redis_only() const { return !wallet && length_s < 3600; }
};

}  // namespace tallygate::redis_contract
