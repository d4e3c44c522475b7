// Text of one manifest file → validated objects and everything that is wrong with the rest.
//
// The text becomes a neutral tree with source marks (tree.h); decoding and validation see only the tree, so that
// objects which come as JSON from a Kubernetes API server pass through the same rules.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "operator/manifest/fault.h"
#include "operator/manifest/resources.h"

namespace tallygate::manifest {

inline constexpr size_t kMaxFileBytes = 4u << 20;
inline constexpr size_t kMaxNodesPerFile = 400'000;  // after alias expansion
inline constexpr int kMaxDepth = 24;

using Object = std::variant<BillingPlan, BillingTenant, BillingPolicy>;

// "BillingPlan standard-v1", "BillingTenant shop/acme": unique among all objects.
std::string object_key(const Object& object);
std::string key_of(const BillingPlan& plan);
std::string key_of(const BillingTenant& tenant);
std::string key_of(const BillingPolicy& policy);
const Metadata& metadata_of(const Object& object);

void insert(Resources* resources, Object object);

struct FileContent {
  std::string file;
  int64_t generation = 0;       // of the one object of a cluster that this is; 0: a file
  std::vector<Object> objects;  // those without a fault of their own, in the order of the file
  Faults faults;
  Faults warnings;  // NotInForceYet, TrustsEveryone
};

// Shared, since most of a source's files are the same from one look to the next.
using Files = std::vector<std::shared_ptr<const FileContent>>;

// Never fails as a whole: a file that is not YAML has one fault and no objects. `file` is for the faults only.
enum class Syntax : uint8_t { kYaml, kJson };  // kJson: one object or list, as an API server or kubectl writes it
FileContent read_manifest(const std::string& file, std::string_view text, Syntax syntax = Syntax::kYaml);

}  // namespace tallygate::manifest
