#include "operator/admission/pod.h"

#include <charconv>
#include <cmath>
#include <utility>

namespace tallygate::admission {
namespace {

const Json kNull;

double quantity_of(const Json& value) {
  if (value.is_number()) return value.get<double>();
  return value.is_string() ? quantity(value.get_ref<const std::string&>()) : NAN;
}

}  // namespace

Json parse_object(const std::string& text) {
  Json value = Json::parse(text, nullptr, false);
  return value.is_object() ? value : Json::object();
}

const Json& at(const Json& object, const char* path) {
  const Json::json_pointer pointer(path);
  return object.contains(pointer) ? object[pointer] : kNull;
}

std::string text_at(const Json& object, const char* path) {
  const Json& value = at(object, path);
  return value.is_string() ? value.get<std::string>() : std::string();
}

StringMap strings_at(const Json& object, const char* path) {
  StringMap all;
  for (const auto& [key, value] : at(object, path).items()) {
    if (value.is_string()) all.emplace(key, value.get<std::string>());
  }
  return all;
}

bool is_native_sidecar(const Json& init_container) { return text_at(init_container, "/restartPolicy") == "Always"; }

void for_each_server(Json& pod, const std::function<void(Json&)>& fn) {
  Json& spec = pod["spec"];
  for (Json& container : spec["containers"]) fn(container);
  if (!spec.contains("initContainers")) return;
  for (Json& container : spec["initContainers"]) {
    if (is_native_sidecar(container)) fn(container);
  }
}

void for_each_server(const Json& pod, const std::function<void(const Json&)>& fn) {
  for (const Json& container : at(pod, "/spec/containers")) fn(container);
  for (const Json& container : at(pod, "/spec/initContainers")) {
    if (is_native_sidecar(container)) fn(container);
  }
}

void for_each_container(const Json& pod, const std::function<void(const Json&)>& fn) {
  for (const char* list : {"/spec/containers", "/spec/initContainers"}) {
    for (const Json& container : at(pod, list)) fn(container);
  }
}

const Json* find_port(const Json& container, int64_t port) {
  for (const Json& entry : at(container, "/ports")) {
    const std::string protocol = text_at(entry, "/protocol");
    if (entry.value("containerPort", int64_t{0}) == port && (protocol.empty() || protocol == "TCP")) return &entry;
  }
  return nullptr;
}

Json* find_port(Json& container, int64_t port) {
  return const_cast<Json*>(find_port(std::as_const(container), port));
}

std::optional<int64_t> resolve_port(const Json& container, const Json& port) {
  if (port.is_number_integer()) return port.get<int64_t>();
  if (!port.is_string()) return std::nullopt;
  for (const Json& entry : at(container, "/ports")) {
    if (text_at(entry, "/name") == port.get<std::string>()) return entry.value("containerPort", int64_t{0});
  }
  int64_t number = 0;
  const auto& text = port.get_ref<const std::string&>();
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

void remove_named(Json& parent, const char* list, const std::function<bool(const std::string&)>& goes) {
  if (!parent.contains(list) || !parent[list].is_array()) return;
  Json kept = Json::array();
  for (Json& item : parent[list]) {
    if (!goes(item.value("name", std::string()))) kept.push_back(std::move(item));
  }
  if (kept.empty()) {
    parent.erase(list);
  } else {
    parent[list] = std::move(kept);
  }
}

double quantity(std::string_view text) {
  if (text.empty() || text[0] < '0' || text[0] > '9') return NAN;
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return NAN;
  const std::string unit(end, text.data() + text.size());
  static const std::map<std::string, double> kUnits = {{"", 1},        {"n", 1e-9},    {"u", 1e-6},    {"m", 1e-3},
                                                       {"k", 1e3},     {"M", 1e6},     {"G", 1e9},     {"T", 1e12},
                                                       {"P", 1e15},    {"E", 1e18},    {"Ki", 0x1p10}, {"Mi", 0x1p20},
                                                       {"Gi", 0x1p30}, {"Ti", 0x1p40}, {"Pi", 0x1p50}, {"Ei", 0x1p60}};
  const auto found = kUnits.find(unit);
  return found == kUnits.end() ? NAN : number * found->second;
}

bool is_guaranteed(const Json& pod) {
  bool all = true;
  for_each_container(pod, [&](const Json& container) {
    for (const char* resource : {"cpu", "memory"}) {
      const Json& limits = at(container, "/resources/limits");
      const Json& requests = at(container, "/resources/requests");
      const double limit = limits.contains(resource) ? quantity_of(limits[resource]) : 0;
      const double request = requests.contains(resource) ? quantity_of(requests[resource]) : limit;
      all = all && limit > 0 && std::fabs(limit - request) <= limit * 1e-9;
    }
  });
  return all;
}

}  // namespace tallygate::admission
