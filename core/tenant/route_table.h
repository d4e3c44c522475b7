// Which route of a policy a request takes: the route whose handler runs, however the app reads the path, or none.
//
//   const RouteTable table(policy);
//   std::string room;
//   const RouteTable::Found found = table.find("GET", "/v1/chat", &room);
//   if (found.fault.empty()) … found.route …
//
// Immutable; any thread. find() allocates nothing for a path that is plain (core/path).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/tenant/model.h"

namespace tallygate::tenant {

class RouteTable {
 public:
  static constexpr size_t kDefaultRoute = SIZE_MAX;

  struct Found {
    size_t route = kDefaultRoute;  // an index of Policy::routes, or kDefaultRoute
    std::string_view forward{};    // the path to hand on, in `room`; data() == nullptr: as it came
    std::string_view fault{};      // not empty: no route, and why, for people
  };

  RouteTable() = default;
  explicit RouteTable(const Policy& policy);

  // `path`: of a request's target, as it came and without the query; "*" takes what matches any path.
  Found find(std::string_view method, std::string_view path, std::string* room) const;

 private:
  struct Entry {
    size_t route;
    std::vector<std::string> methods;  // empty: any
    PathMatch path_match;
    std::string path;  // empty: any. As in readings
  };

  // How a router compares: both are left open by the path itself.
  struct How {
    bool ignore_case;
    bool slash_added = false;  // the path is taken as if it had one more slash at its end
  };
  static bool begins(std::string_view path, std::string_view with, How how);
  static bool fits(const Entry& entry, std::string_view path, How how);
  size_t match(std::string_view method, std::string_view path, How how) const;
  Found find_by(std::string_view method, std::string_view path, bool ignore_case) const;
  Found find_reading(std::string_view method, std::string_view path) const;
  Found find_readings(std::string_view method, std::string_view path) const;

  std::vector<Entry> entries_;  // in order; the first that fits
  AmbiguousPath ambiguous_ = AmbiguousPath::kRefuseIfRoutesDiffer;
  bool ignore_case_ = false;
  bool has_exact_ = false;        // a slash at a path's end can matter
  bool has_exact_slash_ = false;  // and its absence
  bool has_capitals_ = false;     // the case of a path without any can matter
};

}  // namespace tallygate::tenant
