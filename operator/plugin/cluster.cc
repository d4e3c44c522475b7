#include "operator/plugin/cluster.h"

#include <algorithm>
#include <cstdlib>

namespace tallygate::plugin {
namespace {

const Json kNull;

std::string kubeconfig_path(const Arguments& arguments) {
  if (!arguments.kubeconfig.empty()) return arguments.kubeconfig;
  if (const char* given = std::getenv("KUBECONFIG"); given != nullptr && *given != '\0') {
    const std::string text(given);
    return text.substr(0, text.find(':'));
  }
  const char* home = std::getenv("HOME");
  return std::string(home == nullptr ? "" : home) + "/.kube/config";
}

}  // namespace

Result<Cluster> Cluster::open(const Arguments& arguments) {
  auto config = kube::from_kubeconfig(kubeconfig_path(arguments), arguments.context);
  if (!config) return tl::unexpected<Error>(config.error());
  Cluster cluster;
  cluster.name_space_ = arguments.name_space.empty() ? config->name_space : arguments.name_space;
  cluster.registry_ = std::make_unique<metrics::Registry>();
  auto client = kube::Client::create(system_env(), std::move(*config), "kubectl-tallygate", *cluster.registry_);
  if (!client) return tl::unexpected<Error>(client.error());
  cluster.client_ = std::move(*client);
  return cluster;
}

Result<std::vector<Json>> Cluster::list(const kube::ResourceType& type, const std::string& name_space,
                                        const std::string& labels) {
  std::vector<Json> out;
  kube::ListRequest request{.type = type, .name_space = name_space, .selector = {.labels = labels, .fields = {}}};
  do {
    auto page = client_->list(request);
    if (!page) return tl::unexpected<Error>(page.error());
    for (const auto& object : page->objects) out.push_back(Json::parse(object.json, nullptr, false));
    request.continue_from = page->continue_from;
  } while (!request.continue_from.empty());
  return out;
}

Result<Json> Cluster::get(const kube::ResourceType& type, const kube::ObjectName& name) {
  auto object = client_->get(type, name);
  if (!object) return tl::unexpected<Error>(object.error());
  return Json::parse(object->json, nullptr, false);
}

Result<Json> Cluster::raw(const std::string& method, const std::string& path, const Json& body,
                          const HttpHeaders& headers) {
  auto answer = client_->raw(method, path, body.is_null() ? "" : body.dump(), headers);
  if (!answer) return tl::unexpected<Error>(answer.error());
  Json json = Json::parse(*answer, nullptr, false);
  if (json.is_discarded()) return fail(Errc::kUnavailable, path + " answers no JSON");
  return json;
}

Result<kube::ObjectName> Cluster::tenant_name(const std::string& text) const {
  const size_t slash = text.find('/');
  kube::ObjectName name = slash == std::string::npos ? kube::ObjectName{name_space_, text}
                                                     : kube::ObjectName{text.substr(0, slash), text.substr(slash + 1)};
  if (name.name.empty() || name.name_space.empty() || name.name.find('/') != std::string::npos) {
    return fail(Errc::kInvalid, "'" + text + "' is no tenant: write NAMESPACE/NAME");
  }
  return name;
}

const Json& at(const Json& object, std::initializer_list<const char*> path) {
  const Json* place = &object;
  for (const char* name : path) {
    if (!place->is_object()) return kNull;
    const auto member = place->find(name);
    if (member == place->end()) return kNull;
    place = &*member;
  }
  return *place;
}

std::string text_at(const Json& object, std::initializer_list<const char*> path, const std::string& otherwise) {
  const Json& value = at(object, path);
  if (value.is_null()) return otherwise;
  return value.is_string() ? value.get<std::string>() : value.dump();
}

const Json& condition(const Json& object, const std::string& type) {
  const Json& all = at(object, {"status", "conditions"});
  if (!all.is_array()) return kNull;
  const auto found = std::find_if(all.begin(), all.end(), [&](const Json& c) { return text_at(c, {"type"}) == type; });
  return found == all.end() ? kNull : *found;
}

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(widths[i] + 3 - row[i].size(), ' ');
    }
    while (line.ends_with(' ')) line.pop_back();
    out += line + "\n";
  }
  return out;
}

std::string dump(const Json& document) { return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace tallygate::plugin
