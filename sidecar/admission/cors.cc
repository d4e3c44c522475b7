#include "sidecar/admission/cors.h"

#include <algorithm>

#include "core/http1/chars.h"

namespace tallygate::sidecar {
namespace {

// How long a browser need not ask again, in seconds: policies change.
constexpr std::string_view kMaxAge = "Access-Control-Max-Age: 600\r\n";

// Whether `list` is of field names, as browsers write it, and none of them is withheld.
bool may_be_sent(std::string_view list, const proxy::NameSet& withheld) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    const std::string_view name = http1::trim(list.substr(0, comma));
    if (name.empty() || !http1::all_of_class(name, http1::kTokenChar) || withheld.contains(name)) return false;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return true;
}

}  // namespace

Cors::Cors(const tenant::Cors& rules)
    : rules_(rules),
      any_(std::find(rules.allow_origins.begin(), rules.allow_origins.end(), "*") != rules.allow_origins.end()) {}

bool Cors::allows(std::string_view origin) const {
  return !origin.empty() && (any_ || std::find(rules_.allow_origins.begin(), rules_.allow_origins.end(), origin) !=
                                         rules_.allow_origins.end());
}

bool Cors::is_preflight(const proxy::RequestView& request) const {
  if (!on() || request.method != "OPTIONS") return false;
  const auto method = request.find("access-control-request-method"), origin = request.find("origin");
  return method.count == 1 && !method.value.empty() && http1::all_of_class(method.value, http1::kTokenChar) &&
         origin.count == 1 && allows(origin.value);
}

std::string_view Cors::asked_method(const proxy::RequestView& preflight) {
  return preflight.header("access-control-request-method");
}

// Names of methods and fields are the client's own, and tokens: nothing needs escaping.
void Cors::append_consent(const proxy::RequestView& preflight, const proxy::NameSet& withheld,
                          std::string* headers) const {
  *headers += "Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n";
  append_origin(preflight.header("origin"), headers);
  headers->append("Access-Control-Allow-Methods: ").append(asked_method(preflight)).append("\r\n");
  const auto fields = preflight.find("access-control-request-headers");
  if (fields.count == 1 && !fields.value.empty() && may_be_sent(fields.value, withheld)) {
    headers->append("Access-Control-Allow-Headers: ").append(fields.value).append("\r\n");
  }
  *headers += kMaxAge;
}

void Cors::append_denial(std::string_view origin, std::string* headers) const {
  if (!on()) return;
  if (!any_) *headers += "Vary: Origin\r\n";  // caches keep one page's denial from another's
  if (!allows(origin)) return;
  append_origin(origin, headers);
  headers->append(kExpose);
}

// Only what the policy says is repeated, so nothing of the client's needs escaping.
void Cors::append_origin(std::string_view origin, std::string* headers) const {
  headers->append("Access-Control-Allow-Origin: ").append(any_ ? "*" : origin).append("\r\n");
  if (rules_.allow_credentials && !any_) *headers += "Access-Control-Allow-Credentials: true\r\n";
}

}  // namespace tallygate::sidecar
