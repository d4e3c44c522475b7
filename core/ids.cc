#include "core/ids.h"

namespace tallygate {
namespace {

bool is_lower_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

bool is_namespaced_name(std::string_view text) {
  const size_t slash = text.find('/');
  return slash != std::string_view::npos && is_dns_label(text.substr(0, slash)) &&
         is_dns_subdomain(text.substr(slash + 1));
}

constexpr const char* kNamespacedForm = "NAMESPACE/NAME of lower-case letters, digits and '-'";

}  // namespace

bool is_dns_label(std::string_view text) {
  if (text.empty() || text.size() > 63 || !is_lower_alnum(text.front()) || !is_lower_alnum(text.back())) return false;
  for (const char c : text) {
    if (!is_lower_alnum(c) && c != '-') return false;
  }
  return true;
}

bool is_dns_subdomain(std::string_view text) {
  if (text.empty() || text.size() > 253) return false;
  while (true) {
    const size_t dot = text.find('.');
    if (!is_dns_label(text.substr(0, dot))) return false;
    if (dot == std::string_view::npos) return true;
    text.remove_prefix(dot + 1);
  }
}

bool is_meter_name(std::string_view text) {
  if (text.empty() || text.size() > 63 || text.front() < 'a' || text.front() > 'z') return false;
  for (const char c : text) {
    if (!is_lower_alnum(c) && c != '_') return false;
  }
  return true;
}

std::string_view namespace_of(std::string_view namespaced_name) {
  return namespaced_name.substr(0, namespaced_name.find('/'));
}

template <>
Result<TenantId> TenantId::parse(std::string_view text) {
  return checked(text, is_namespaced_name(text), kNamespacedForm);
}

template <>
Result<PolicyId> PolicyId::parse(std::string_view text) {
  return checked(text, is_namespaced_name(text), kNamespacedForm);
}

template <>
Result<PlanName> PlanName::parse(std::string_view text) {
  return checked(text, is_dns_subdomain(text), "a name of lower-case letters, digits, '-' and '.'");
}

template <>
Result<MeterName> MeterName::parse(std::string_view text) {
  return checked(text, is_meter_name(text), "a meter name: a lower-case letter, then letters, digits and '_'");
}

template <>
Result<LimitName> LimitName::parse(std::string_view text) {
  return checked(text, is_dns_label(text), "a name of lower-case letters, digits and '-', at most 63 long");
}

}  // namespace tallygate
