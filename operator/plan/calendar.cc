#include "operator/plan/calendar.h"

#include <date/tz.h>

#include <algorithm>

namespace tallygate::plan {
namespace {

using date::days;
using date::local_days;
using date::local_seconds;
using date::months;
using date::sys_days;
using date::sys_seconds;
using date::year_month_day;
using date::years;
using std::chrono::seconds;
using tenant::WindowKind;

constexpr int64_t kDayS = 86'400;
constexpr int64_t kHourS = 3'600;
constexpr int64_t kWindowsAhead = 3;
constexpr int64_t kAheadS = 2 * kDayS;

sys_seconds at(int64_t unix_s) { return sys_seconds{seconds{unix_s}}; }
int64_t unix_s(sys_seconds time) { return time.time_since_epoch().count(); }

int64_t floor_div(int64_t a, int64_t b) { return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0); }

// Starts of local days and longer windows. Where clocks skip midnight, the day starts when they have moved; where
// midnight comes twice, with the first.
class Zone {
 public:
  explicit Zone(const date::time_zone* zone) : zone_(zone) {}

  int64_t start_of(WindowKind kind, int64_t time_s) const {
    if (kind == WindowKind::kHour) return start_of_hour(time_s);
    const auto local = zone_->to_local(at(time_s));
    return to_unix(first_day(kind, year_month_day{date::floor<days>(local)}));
  }

  int64_t next(WindowKind kind, int64_t start_s) const {
    if (kind == WindowKind::kHour) return next_hour(start_s);
    int64_t next_s = start_s;
    const year_month_day first = first_day(kind, year_month_day{date::floor<days>(zone_->to_local(at(start_s)))});
    // A day that a zone skipped altogether starts when the one after it does: such a window does not exist.
    for (int step = 1; next_s <= start_s; ++step) next_s = to_unix(advance(kind, first, step));
    return next_s;
  }

 private:
  static year_month_day first_day(WindowKind kind, year_month_day day) {
    switch (kind) {
      case WindowKind::kWeek: {
        const local_days local{day};
        return year_month_day{local - (date::weekday{local} - date::Monday)};
      }
      case WindowKind::kMonth:
        return day.year() / day.month() / 1;
      case WindowKind::kYear:
        return day.year() / date::January / 1;
      default:
        return day;
    }
  }

  static year_month_day advance(WindowKind kind, year_month_day day, int n) {
    switch (kind) {
      case WindowKind::kWeek:
        return year_month_day{local_days{day} + days{7 * n}};
      case WindowKind::kMonth:
        return day + months{n};
      case WindowKind::kYear:
        return day + years{n};
      default:
        return year_month_day{local_days{day} + days{n}};
    }
  }

  int64_t to_unix(year_month_day day) const {
    return unix_s(date::floor<seconds>(zone_->to_sys(local_seconds{local_days{day}}, date::choose::earliest)));
  }

  // Whole hours of the local clock; a change by half an hour makes one window of 30 or 90 minutes.
  int64_t start_of_hour(int64_t time_s) const {
    const auto info = zone_->get_info(at(time_s));
    const int64_t local_s = time_s + info.offset.count();
    const int64_t start_s = floor_div(local_s, kHourS) * kHourS - info.offset.count();
    const int64_t change_s = unix_s(info.begin);
    if (start_s >= change_s) return start_s;
    const auto before = zone_->get_info(at(change_s - 1));
    const bool whole_hours = (info.offset.count() - before.offset.count()) % kHourS == 0;
    return whole_hours ? start_s : start_of_hour(change_s - 1);
  }

  int64_t next_hour(int64_t start_s) const {
    for (int64_t step = kHourS / 4;; step += kHourS / 4) {
      const int64_t start = start_of_hour(start_s + step);
      if (start > start_s) return start;
    }
  }

  const date::time_zone* zone_;
};

// A list that starts one window before the one with `from_s`, and ends three windows and 48 h past `to_s`.
template <class StartOf, class Next>
std::vector<int64_t> build(int64_t from_s, int64_t to_s, StartOf start_of, Next next) {
  const int64_t current_s = start_of(from_s);
  std::vector<int64_t> list{start_of(current_s - 1), current_s};
  int64_t ahead = 0;
  while (ahead < kWindowsAhead || list.back() < to_s + kAheadS) {
    list.push_back(next(list.back()));
    if (list.back() > to_s) ++ahead;
  }
  return list;
}

std::vector<int64_t> billing_periods(const Calendar& calendar, int64_t from_s, int64_t to_s) {
  const auto index_of = [&](int64_t time_s) {
    const auto day = [](int64_t t) { return year_month_day{date::floor<days>(at(t))}; };
    const auto from = day(calendar.anchor_s), to = day(time_s);
    const int64_t whole_years = int{to.year()} - int{from.year()};
    int64_t n = calendar.interval == manifest::Interval::kYear
                    ? whole_years
                    : whole_years * 12 + int64_t{unsigned{to.month()}} - int64_t{unsigned{from.month()}};
    while (period_start(calendar, n) > time_s) --n;
    return n;
  };
  return build(
      from_s, to_s, [&](int64_t time_s) { return period_start(calendar, index_of(time_s)); },
      [&](int64_t start_s) { return period_start(calendar, index_of(start_s) + 1); });
}

}  // namespace

int64_t period_start(const Calendar& calendar, int64_t n) {
  const auto anchor_day = date::floor<days>(at(calendar.anchor_s));
  const year_month_day anchor{anchor_day};
  const int64_t time_of_day_s = calendar.anchor_s - unix_s(sys_seconds{anchor_day});
  const auto step = months{static_cast<int>(calendar.interval == manifest::Interval::kYear ? n * 12 : n)};
  year_month_day day = anchor + step;
  if (!day.ok()) day = day.year() / day.month() / date::last;
  return unix_s(sys_seconds{sys_days{day}}) + time_of_day_s;
}

Result<std::vector<int64_t>> boundaries(const Calendar& calendar, WindowKind kind, int64_t from_s, int64_t to_s) {
  TG_ASSERT(!tenant::is_redis_only(kind) && from_s <= to_s);
  if (kind == WindowKind::kBillingPeriod) return billing_periods(calendar, from_s, to_s);
  try {
    const Zone zone(date::locate_zone(calendar.time_zone));
    return build(
        from_s, to_s, [&](int64_t time_s) { return zone.start_of(kind, time_s); },
        [&](int64_t start_s) { return zone.next(kind, start_s); });
  } catch (const std::exception& e) {
    return fail(Errc::kUnavailable, "time zone " + calendar.time_zone + ": " + e.what());
  }
}

}  // namespace tallygate::plan
