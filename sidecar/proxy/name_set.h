// A set of field names in all their spellings: names are the same here if an app may take one for the other
// (http1::fold_name).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tallygate::proxy {

class NameSet {
 public:
  NameSet() = default;
  explicit NameSet(const std::vector<std::string>& names);
  // Takes the name in; with `but_itself`, its other spellings only. Case is no spelling.
  void add(std::string_view name, bool but_itself = false);
  // A look-up costs next to nothing unless the length fits, which is the same for all spellings.
  bool contains(std::string_view name) const {
    const Entry* entry = find(name);
    return entry != nullptr && !entry->is(name);
  }
  // The same, but the spelling that is exempt counts too.
  bool contains_any_spelling(std::string_view name) const { return find(name) != nullptr; }

 private:
  struct Entry {
    std::string folded;
    std::string itself;  // in lower case: the one spelling that is not meant; empty: all are
    bool is(std::string_view name) const;
  };
  const Entry* find(std::string_view name) const {
    return (lengths_ >> (name.size() & 63) & 1) != 0 ? search(name) : nullptr;
  }
  const Entry* search(std::string_view name) const;
  uint64_t lengths_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace tallygate::proxy
