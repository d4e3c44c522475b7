#include "operator/kube/paths.h"

namespace tallygate::kube {
namespace {

void append_escaped(std::string& out, std::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                       c == '_' || c == '.' || c == '~';
    if (plain) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
}

void append_part(std::string& out, std::string_view part) {
  out += '/';
  append_escaped(out, part);
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
  append_escaped(text_, name);
  text_ += '=';
  append_escaped(text_, value);
}

}  // namespace tallygate::kube
