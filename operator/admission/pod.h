// Reading and changing a pod's JSON. What is absent reads as empty; nothing here is added by reading.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "operator/admission/inject.h"

namespace tallygate::admission {

// What is no JSON, or no object, reads as an empty one.
Json parse_object(const std::string& text);
// The member, or null where there is none. `path` such as "/spec/hostNetwork".
const Json& at(const Json& object, const char* path);
std::string text_at(const Json& object, const char* path);
StringMap strings_at(const Json& object, const char* path);

bool is_native_sidecar(const Json& init_container);
// The app's containers and native sidecars. `fn` may change them, and not their number.
void for_each_server(Json& pod, const std::function<void(Json& container)>& fn);
void for_each_server(const Json& pod, const std::function<void(const Json& container)>& fn);
// All containers, the other init containers too.
void for_each_container(const Json& pod, const std::function<void(const Json& container)>& fn);

// The entry of `ports` for TCP and this number, or null.
Json* find_port(Json& container, int64_t port);
const Json* find_port(const Json& container, int64_t port);
// Of a number, or of a name among the container's own ports, as a kubelet does it.
std::optional<int64_t> resolve_port(const Json& container, const Json& port);

// Removes what has one of the names from a list of objects with names; no list is left empty.
void remove_named(Json& parent, const char* list, const std::function<bool(const std::string& name)>& goes);

// "250m", "1Gi", "1e3" as a number; NaN where it is no quantity of Kubernetes. To compare, not to count.
double quantity(std::string_view text);
// Whether the kubelet would give the pod the QoS class Guaranteed.
bool is_guaranteed(const Json& pod);

}  // namespace tallygate::admission
