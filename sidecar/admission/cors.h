// What lets a web page of another origin ask, and read a denial, which no app sees to: the Fetch standard's CORS
// protocol, for the origins that the policy names. The app's own answers keep the app's own fields.
#pragma once

#include <string>
#include <string_view>

#include "core/tenant/model.h"
#include "sidecar/proxy/gate.h"

namespace tallygate::sidecar {

class Cors {
 public:
  Cors() = default;  // off
  explicit Cors(const tenant::Cors& rules);
  bool on() const { return !rules_.allow_origins.empty(); }
  bool allows(std::string_view origin) const;
  // A browser's question, of an allowed origin, whether it may send another request.
  bool is_preflight(const proxy::RequestView& request) const;
  // The method of that other request.
  static std::string_view asked_method(const proxy::RequestView& preflight);
  // Appends the lines of a yes to a preflight. Pages may send any field, but where one is among the `withheld`.
  void append_consent(const proxy::RequestView& preflight, const proxy::NameSet& withheld, std::string* headers) const;
  // Appends a denial's lines; `origin` is the request's, empty where it has none.
  void append_denial(std::string_view origin, std::string* headers) const;
  // For any answer with quota headers: pages may read them. Empty where this is off.
  std::string_view expose_line() const { return on() ? kExpose : std::string_view(); }

 private:
  void append_origin(std::string_view origin, std::string* headers) const;
  static constexpr std::string_view kExpose =
      "Access-Control-Expose-Headers: RateLimit, RateLimit-Policy, X-RateLimit-Limit, X-RateLimit-Remaining, "
      "X-RateLimit-Reset, X-Tallygate-Cap-State, Retry-After, X-Request-Id\r\n";
  tenant::Cors rules_;
  bool any_ = false;
};

}  // namespace tallygate::sidecar
