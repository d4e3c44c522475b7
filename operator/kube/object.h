// What the API server has: types, names, and objects as the text it sent.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>

namespace tallygate::kube {

struct ResourceType {
  std::string group;  // empty: core
  std::string version;
  std::string plural;
  std::string kind;
  bool namespaced = true;
  auto operator<=>(const ResourceType&) const = default;
};

struct ObjectName {
  std::string name_space;  // empty for what is cluster-scoped
  std::string name;
  auto operator<=>(const ObjectName&) const = default;
  std::string str() const { return name_space.empty() ? name : name_space + "/" + name; }
};

struct Object {
  ObjectName name;
  std::string uid;
  std::string resource_version;
  int64_t generation = 0;
  bool deleting = false;  // metadata.deletionTimestamp is set
  std::string json;       // the whole, as sent (apiVersion and kind included), after the reflector's transform
};
using ObjectPtr = std::shared_ptr<const Object>;

// Takes metadata.managedFields out of its json: bookkeeping of the server, often half of the whole.
void drop_managed_fields(Object& object);

}  // namespace tallygate::kube
