#include "sidecar/proxy/name_set.h"

#include <algorithm>
#include <iterator>

#include "core/http1/chars.h"

namespace tallygate::proxy {
namespace {

bool folds_to(std::string_view name, std::string_view folded) {
  if (name.size() != folded.size()) return false;
  for (size_t i = 0; i < name.size(); ++i) {
    if (http1::fold_name_char(name[i]) != folded[i]) return false;
  }
  return true;
}

}  // namespace

NameSet::NameSet(const std::vector<std::string>& names) {
  for (const std::string& name : names) add(name);
}

void NameSet::add(std::string_view name, bool but_itself) {
  Entry entry{http1::fold_name(name), {}};
  if (but_itself) std::transform(name.begin(), name.end(), std::back_inserter(entry.itself), http1::lower);
  entries_.push_back(std::move(entry));
  lengths_ |= uint64_t{1} << (name.size() & 63);
}

bool NameSet::Entry::is(std::string_view name) const { return http1::equals_lower(name, itself); }

const NameSet::Entry* NameSet::search(std::string_view name) const {
  for (const Entry& entry : entries_) {
    if (folds_to(name, entry.folded)) return &entry;
  }
  return nullptr;
}

}  // namespace tallygate::proxy
