// What is published, entry by entry, and the difference between what Redis holds and what it should hold. Pure.
//
// An entry is a document (tenant, policy) or an identity. Its name is what the change index calls it: "T<tenant>",
// "P<policy>", "I<kind>:<value>".
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/tenant/model.h"
#include "operator/plan/compile.h"

namespace tallygate::publish {

// Of the content without its version: half of a SHA-256.
using Fingerprint = std::array<unsigned char, 16>;
Fingerprint fingerprint(std::string_view content);

struct Entry {
  enum class Kind : char { kTenant = 'T', kPolicy = 'P', kIdentity = 'I' };
  Kind kind = Kind::kTenant;
  size_t index = 0;  // in the vector of its kind in plan::Compiled
  Fingerprint content{};
};
using Desired = std::map<std::string, Entry, std::less<>>;

// Where `before` is given with what was desired of it, objects that are equal in both are not looked at again: one
// change among ten thousand tenants costs a comparison each.
Desired desired_of(const plan::Compiled& compiled, const plan::Compiled* before = nullptr,
                   const Desired* desired_before = nullptr);

// Tenants that the ledger has suspended, with the reason for their 403s.
using Suspensions = std::map<std::string, std::string, std::less<>>;
// The snapshot with these suspended too: itself where there are none. What the manifests say of a suspension stays.
std::shared_ptr<const plan::Compiled> with_suspensions(std::shared_ptr<const plan::Compiled> compiled,
                                                       const Suspensions& suspensions);

// With API keys under their peppered hashes (core/api_key.h), and under plain ones as well where `keep_plain`: for sidecars
// that do not have the pepper yet. Itself where `pepper` is empty.
std::shared_ptr<const plan::Compiled> with_pepper(std::shared_ptr<const plan::Compiled> compiled,
                                                  const std::string& pepper, bool keep_plain);

// For each of `now`, the place of the equal object in `before`, or kNone. Both sorted by `id`.
inline constexpr size_t kNone = static_cast<size_t>(-1);
template <class T>
std::vector<size_t> equals_in(const std::vector<T>& now, const std::vector<T>& before) {
  std::vector<size_t> places(now.size(), kNone);
  size_t j = 0;
  for (size_t i = 0; i < now.size(); ++i) {
    while (j < before.size() && before[j].id < now[i].id) ++j;
    if (j < before.size() && before[j] == now[i]) places[i] = j;
  }
  return places;
}

// The key and the value to write. `version` goes into documents; identities have none.
std::string key_of(std::string_view name);
std::string value_of(const plan::Compiled& compiled, const Entry& entry, int64_t version);
// What Redis is known to hold under a name of the change index.
struct Held {
  enum class State : uint8_t {
    kPresent,
    kRemoved,  // the index remembers a removal
    kUnknown,  // must be written or removed anew
  };
  State state = State::kUnknown;
  Fingerprint content{};
  int64_t version = 0;  // of a tenant's or policy's document; 0 where it is not known
};
// What a value read from Redis is; kUnknown where it is not what `name` should hold.
Held held_of_value(std::string_view name, std::string_view value);
using Holding = std::map<std::string, Held, std::less<>>;

struct Changes {
  std::vector<std::string> written;  // names, tenants' and policies' documents before identities
  std::vector<std::string> removed;  // names, identities before documents
  bool empty() const { return written.empty() && removed.empty(); }
};
Changes difference(const Holding& held, const Desired& desired);

}  // namespace tallygate::publish
