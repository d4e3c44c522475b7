// The calendar of limit windows. Calendar windows (Hour … Year) are those of a time zone: a day has 23 or 25 hours when
// clocks change, a week starts on Monday. Billing periods follow the subscription: UTC, from the anchor, the 31st
// clamped to short months and remembered. Zones come from the system's tzdata through Howard Hinnant's date library.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/tenant/model.h"
#include "operator/manifest/resources.h"

namespace tallygate::plan {

struct Calendar {
  std::string time_zone = "UTC";
  manifest::Interval interval = manifest::Interval::kMonth;
  int64_t anchor_s = 0;
};

// Ascending starts of windows such that the window before the one that contains `from_s` is the first and at least
// three windows and 48 h follow `to_s`. Not for Second and Minute, which need none.
Result<std::vector<int64_t>> boundaries(const Calendar& calendar, tenant::WindowKind kind, int64_t from_s,
                                        int64_t to_s);

// anchor + n intervals, clamped to the month's last day, for any n.
int64_t period_start(const Calendar& calendar, int64_t n);

}  // namespace tallygate::plan
