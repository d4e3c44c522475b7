// Strong identifiers: text that was validated once, at the edge. No implicit conversion between kinds.
#pragma once

#include <compare>
#include <functional>
#include <string>
#include <string_view>

#include "core/result.h"

namespace tallygate {

template <class Tag>
class Id {
 public:
  Id() = default;
  // Validates; the error says what form is wanted.
  static Result<Id> parse(std::string_view text);
  const std::string& str() const { return text_; }
  bool empty() const { return text_.empty(); }
  auto operator<=>(const Id&) const = default;

 private:
  static Result<Id> checked(std::string_view text, bool ok, const char* form) {
    if (!ok) return fail(Errc::kInvalid, "\"" + std::string(text.substr(0, 80)) + "\" is not " + form);
    Id id;
    id.text_ = text;
    return id;
  }
  std::string text_;
};

// A tenant or a policy: NAMESPACE/NAME, each an RFC 1123 label (name: subdomain), as Kubernetes has them.
using TenantId = Id<struct TenantTag>;
using PolicyId = Id<struct PolicyTag>;
// A plan: an RFC 1123 subdomain.
using PlanName = Id<struct PlanTag>;
// A meter: [a-z][a-z0-9_]*, at most 63.
using MeterName = Id<struct MeterTag>;
// A limit or a route: [a-z0-9]([-a-z0-9]*[a-z0-9])?, at most 63.
using LimitName = Id<struct LimitTag>;

bool is_dns_label(std::string_view text);      // RFC 1123, at most 63
bool is_dns_subdomain(std::string_view text);  // RFC 1123, at most 253
bool is_meter_name(std::string_view text);

// Namespace part of "namespace/name".
std::string_view namespace_of(std::string_view namespaced_name);

}  // namespace tallygate

template <class Tag>
struct std::hash<tallygate::Id<Tag>> {
  size_t operator()(const tallygate::Id<Tag>& id) const noexcept { return std::hash<std::string>{}(id.str()); }
};
