#include "operator/kube/paths.h"

#include "core/percent.h"

namespace tallygate::kube {
namespace {

void append_part(std::string& out, std::string_view part) {
  out += '/';
  out += percent_encode(part);
}

}  // namespace

std::string collection_path(const ResourceType& type, std::string_view name_space) {
  std::string path = type.group.empty() ? "/api" : "/apis";
  if (!type.group.empty()) append_part(path, type.group);
  append_part(path, type.version);
  if (!name_space.empty()) {
    path += "/namespaces";
    append_part(path, name_space);
  }
  append_part(path, type.plural);
  return path;
}

std::string object_path(const ResourceType& type, const ObjectName& name, std::string_view subresource) {
  std::string path = collection_path(type, name.name_space);
  append_part(path, name.name);
  if (!subresource.empty()) append_part(path, subresource);
  return path;
}

void Query::add(std::string_view name, std::string_view value) {
  text_ += text_.empty() ? '?' : '&';
  text_ += percent_encode(name);
  text_ += '=';
  text_ += percent_encode(value);
}

}  // namespace tallygate::kube
