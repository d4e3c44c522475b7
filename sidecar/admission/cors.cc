#include "sidecar/admission/cors.h"

#include <algorithm>

namespace tallygate::sidecar {

Cors::Cors(const tenant::Cors& rules)
    : rules_(rules),
      any_(std::find(rules.allow_origins.begin(), rules.allow_origins.end(), "*") != rules.allow_origins.end()) {}

bool Cors::allows(std::string_view origin) const {
  return !origin.empty() && (any_ || std::find(rules_.allow_origins.begin(), rules_.allow_origins.end(), origin) !=
                                         rules_.allow_origins.end());
}

bool Cors::is_preflight(const proxy::RequestView& request) const {
  return on() && request.method == "OPTIONS" && request.find("access-control-request-method").count == 1 &&
         allows(request.header("origin"));
}

void Cors::append_denial(std::string_view origin, std::string* headers) const {
  if (!on()) return;
  if (!any_) *headers += "Vary: Origin\r\n";  // caches keep one page's denial from another's
  if (!allows(origin)) return;
  // Only what the policy says is repeated, so nothing of the client's needs escaping.
  headers->append("Access-Control-Allow-Origin: ").append(any_ ? "*" : origin).append("\r\n");
  if (rules_.allow_credentials && !any_) *headers += "Access-Control-Allow-Credentials: true\r\n";
  headers->append(kExpose);
}

}  // namespace tallygate::sidecar
