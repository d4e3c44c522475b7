// How far the ledger was when this sidecar, or one before it on the same data folder, last heard of it. A ledger that
// is less far was restored from an older backup: nothing is leased from it (docs/adr/0008-a-restored-ledger.md).
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "core/result.h"

namespace tallygate::sidecar {

struct LedgerMark {
  std::string id;          // which ledger; empty: none was heard of
  int64_t generation = 0;  // how often it was recovered
  int64_t mark = 0;
  bool operator==(const LedgerMark&) const = default;
  // Of two marks of one ledger.
  bool is_before(const LedgerMark& other) const {
    return std::pair(generation, mark) < std::pair(other.generation, other.mark);
  }
};

// A small file in the data folder. One that cannot be read counts as none: others remember too.
class LedgerMemory {
 public:
  explicit LedgerMemory(std::string data_folder) : path_(std::move(data_folder) + "/ledger-mark") { load(); }
  const LedgerMark& mark() const { return mark_; }
  // The generation of mark().id for which finished incarnations' records were sent again.
  int64_t resent() const { return resent_; }
  // Written only where it changes something, or could not be written before. What is known is known here in any case.
  Result<void> remember(const LedgerMark& mark, int64_t resent);

 private:
  void load();
  Result<void> write() const;
  std::string path_;
  LedgerMark mark_;
  int64_t resent_ = 0;
  bool written_ = true;  // mark_ and resent_
};

}  // namespace tallygate::sidecar
