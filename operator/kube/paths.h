// Where the API server keeps what: paths and queries. Internal to the client.
#pragma once

#include <string>
#include <string_view>

#include "operator/kube/object.h"

namespace tallygate::kube {

std::string collection_path(const ResourceType& type, std::string_view name_space);
std::string object_path(const ResourceType& type, const ObjectName& name, std::string_view subresource = {});

class Query {
 public:
  void add(std::string_view name, std::string_view value);
  // "?a=b&c=d", or nothing.
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace tallygate::kube
