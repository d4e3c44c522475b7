#include "core/tenant/route_table.h"

#include <algorithm>

#include "core/path/normal_form.h"
#include "core/path/readings.h"

namespace tallygate::tenant {
namespace {

constexpr std::string_view kRoutesDiffer =
    "the path can be read in several ways (escapes, dot segments, doubled slashes, \\ or ;), which lead to different "
    "routes: "
    "send it without these";
constexpr std::string_view kSlashDiffers =
    "the path leads to another route with a slash at its end than without, and servers differ in whether that slash "
    "counts: "
    "send the path as the route has it";
constexpr std::string_view kCaseDiffers =
    "the path leads to another route where the case of letters does not count, and servers differ in whether it does: "
    "send the path as the route has it";
constexpr std::string_view kNotPlain =
    "the path has escapes, dot segments, doubled slashes, \\ or ;, which are not accepted here";

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }

bool has_capital(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

}  // namespace

RouteTable::RouteTable(const Policy& policy)
    : ambiguous_(policy.paths.ambiguous), ignore_case_(policy.paths.ignore_case) {
  for (size_t i = 0; i < policy.routes.size(); ++i) {
    if (policy.routes[i].matches.empty()) entries_.push_back({i, {}, PathMatch::kPrefix, ""});
    for (const auto& match : policy.routes[i].matches) {
      Entry entry{i, match.methods, match.path_match, path::open_escapes(match.path)};
      auto& methods = entry.methods;
      const bool get = std::find(methods.begin(), methods.end(), "GET") != methods.end();
      if (get && std::find(methods.begin(), methods.end(), "HEAD") == methods.end()) methods.push_back("HEAD");
      const bool ends_in_slash = entry.path.size() > 1 && entry.path.ends_with('/');
      if (entry.path_match == PathMatch::kPrefix && ends_in_slash) entry.path.pop_back();
      if (entry.path_match == PathMatch::kExact) has_exact_ = true;
      if (entry.path_match == PathMatch::kExact && ends_in_slash) has_exact_slash_ = true;
      if (has_capital(entry.path)) has_capitals_ = true;
      entries_.push_back(std::move(entry));
    }
  }
}

bool RouteTable::begins(std::string_view path, std::string_view with, How how) {
  if (path.size() < with.size()) return false;
  // Most that differ do so in their last byte already.
  if (!how.ignore_case) [[likely]]
    return with.empty() || (path[with.size() - 1] == with.back() && path.starts_with(with));
  return std::equal(with.begin(), with.end(), path.begin(), [](char a, char b) { return lower(a) == lower(b); });
}

bool RouteTable::fits(const Entry& entry, std::string_view path, How how) {
  if (entry.path_match == PathMatch::kPrefix) {
    if (!begins(path, entry.path, how)) return false;
    return entry.path.size() <= 1 || path.size() == entry.path.size() || path[entry.path.size()] == '/';
  }
  if (!how.slash_added) return path.size() == entry.path.size() && begins(path, entry.path, how);
  return entry.path.size() == path.size() + 1 && entry.path.ends_with('/') &&
         begins(path, std::string_view(entry.path).substr(0, path.size()), how);
}

size_t RouteTable::match(std::string_view method, std::string_view path, How how) const {
  for (const Entry& entry : entries_) {
    if (!fits(entry, path, how)) continue;
    if (entry.methods.empty() || std::find(entry.methods.begin(), entry.methods.end(), method) != entry.methods.end()) {
      return entry.route;
    }
  }
  return kDefaultRoute;
}

RouteTable::Found RouteTable::find_by(std::string_view method, std::string_view path, bool ignore_case) const {
  const size_t route = match(method, path, {ignore_case});
  if (path.size() <= 1) return {.route = route};
  // Many routers take "/healthz/" for "/healthz", and the other way round, and many do not.
  size_t other = route;
  if (path.back() != '/') {
    if (has_exact_slash_) other = match(method, path, {ignore_case, true});
  } else if (has_exact_) {
    other = match(method, path.substr(0, path.size() - 1), {ignore_case});
  }
  if (other != route) [[unlikely]]
    return {.fault = kSlashDiffers};
  return {.route = route};
}

// And many take "/HealthZ" for "/healthz".
RouteTable::Found RouteTable::find_reading(std::string_view method, std::string_view path) const {
  const Found found = find_by(method, path, ignore_case_);
  if (ignore_case_ || !found.fault.empty() || !(has_capitals_ || has_capital(path))) [[likely]]
    return found;
  const Found folded = find_by(method, path, true);
  if (!folded.fault.empty() || folded.route != found.route) return {.fault = kCaseDiffers};
  return found;
}

RouteTable::Found RouteTable::find_readings(std::string_view method, std::string_view path) const {
  Found found;
  bool first = true;
  const path::Fault fault = path::each_reading(path, [&](std::string_view reading) {
    const Found one = find_reading(method, reading);
    if (first || !one.fault.empty()) {
      found = one;
    } else if (one.route != found.route) {
      found.fault = kRoutesDiffer;
    }
    first = false;
    return found.fault.empty();
  });
  if (fault != path::Fault::kNone) found.fault = path::words(fault);
  return found;
}

RouteTable::Found RouteTable::find(std::string_view method, std::string_view path, std::string* room) const {
  if (path::is_plain(path)) [[likely]]
    return find_reading(method, path);
  if (ambiguous_ == AmbiguousPath::kRefuse) return {.fault = kNotPlain};
  if (ambiguous_ == AmbiguousPath::kRefuseIfRoutesDiffer) return find_readings(method, path);
  if (const path::Fault fault = path::normal_form(path, room); fault != path::Fault::kNone) {
    return {.fault = path::words(fault)};
  }
  Found found = find_readings(method, *room);
  found.forward = *room;
  return found;
}

}  // namespace tallygate::tenant
