// A provider's language: how it proves who it is, what its payloads say, and which answers it understands. Each is one
// file with one row in adapters().
//
// Adapters are immutable; any thread. They keep no payload: those hold what people said, and other services' secrets.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "core/http/message.h"
#include "operator/api/fields.h"
#include "core/hmac.h"
#include "operator/api/provider/event.h"

namespace tallygate::api {

class ProviderAdapter {
 public:
  virtual ~ProviderAdapter() = default;

  // Whether the provider sent this. Nothing of the request is believed before. `why` is for logs only.
  virtual bool authenticate(const http::Request& request, int64_t now_s, std::string& why) const = 0;
  // Whether authenticate() needs no body.
  virtual bool proves_by_head() const { return false; }
  // The event, or a problem that names every fault.
  virtual tl::expected<Reading, http::Response> read(const http::Request& request,
                                                     const std::string& tenant_pointer) const = 0;
  // In the provider's words.
  virtual http::Response answer(const Outcome& outcome) const = 0;
};

// The one in use and those that it replaces; at least one.
using ProviderSecrets = std::vector<std::string>;

struct AdapterKind {
  std::string_view name;
  bool has_calls;             // it reports calls, so the settings must say what to reserve for one
  std::string_view currency;  // of its costs; "": any
  // Asks `options` for its own settings; a fault there makes the result meaningless.
  std::unique_ptr<const ProviderAdapter> (*make)(ProviderSecrets secrets, Fields& options);
  // "" where the secret has the scheme's form; else what to do about it.
  std::string (*secret_fault)(std::string_view secret);
};

extern const AdapterKind kStandardAdapter, kVapiAdapter, kTwilioAdapter;
std::span<const AdapterKind* const> adapters();

// How far a signed timestamp may be from now, either way.
inline constexpr int64_t kTimestampToleranceS = 300;
// The header's value where it comes exactly once; else `why` says so.
std::optional<std::string_view> only_header(const http::Request& request, std::string_view lower_name,
                                            std::string& why);
// Whether `given` is what one of the secrets makes. All are tried: nothing tells which.
template <class Make>
bool fits_any(const ProviderSecrets& secrets, std::string_view given, const Make& make) {
  bool fits = false;
  for (const auto& secret : secrets) fits |= equal_in_constant_time(make(secret), given);
  return fits;
}
// A number of seconds since the epoch as sent in a header, near enough to `now_s`.
bool is_timely(std::string_view timestamp, int64_t now_s, std::string& why);

}  // namespace tallygate::api
