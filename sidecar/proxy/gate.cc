#include "sidecar/proxy/gate.h"

#include "core/http1/chars.h"

namespace tallygate::proxy {

bool name_equals(std::string_view name, std::string_view lower_name) { return http1::equals_lower(name, lower_name); }

RequestView::Lookup RequestView::find(std::string_view lower_name) const {
  Lookup lookup;
  for (const Header& header : headers) {
    if (!name_equals(header.name, lower_name)) continue;
    if (lookup.count++ == 0) lookup.value = header.value;
  }
  return lookup;
}

}  // namespace tallygate::proxy
