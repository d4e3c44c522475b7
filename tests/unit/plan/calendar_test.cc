#include "operator/plan/calendar.h"

#include <gtest/gtest.h>

#include "operator/manifest/formats.h"

namespace tallygate::plan {
namespace {

using tenant::WindowKind;

int64_t utc(const char* text) { return manifest::parse_rfc3339(text).value(); }

std::vector<int64_t> list(const Calendar& calendar, WindowKind kind, const char* from, int64_t span_s = 86'400) {
  return boundaries(calendar, kind, utc(from), utc(from) + span_s).value();
}

Calendar in(const char* zone) {
  Calendar calendar;
  calendar.time_zone = zone;
  return calendar;
}

// The length of the window that contains `time`.
int64_t length_at(const Calendar& calendar, WindowKind kind, const char* time) {
  const auto all = list(calendar, kind, time);
  const auto next = std::upper_bound(all.begin(), all.end(), utc(time));
  return *next - *(next - 1);
}

TEST(Calendar, ListsStartOneWindowBackAndEndTwoDaysAndThreeWindowsAhead) {
  for (const WindowKind kind : {WindowKind::kHour, WindowKind::kDay, WindowKind::kWeek, WindowKind::kMonth,
                                WindowKind::kYear, WindowKind::kBillingPeriod}) {
    for (const char* zone : {"UTC", "Europe/London", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe",
                             "Africa/Cairo", "Pacific/Apia", "America/Havana"}) {
      for (const char* from : {"2026-03-29T00:00:00Z", "2026-10-25T00:00:00Z", "2026-02-28T12:34:56Z",
                               "2026-04-05T00:00:00Z", "2026-12-31T23:59:59Z"}) {
        const auto all = list(in(zone), kind, from);
        EXPECT_LE(all[1], utc(from)) << zone;
        EXPECT_GT(all[2], utc(from)) << zone;
        const int64_t to = utc(from) + 86'400;
        EXPECT_GE(all.back(), to + 2 * 86'400);
        EXPECT_GE(std::count_if(all.begin(), all.end(), [&](int64_t s) { return s > to; }), 3);
        for (size_t i = 1; i < all.size(); ++i) EXPECT_LT(all[i - 1], all[i]) << zone << " " << from;
      }
    }
  }
}

TEST(Calendar, DaysHave23And25HoursWhenClocksChange) {
  const Calendar london = in("Europe/London");
  EXPECT_EQ(length_at(london, WindowKind::kDay, "2026-03-29T12:00:00Z"), 23 * 3600);
  EXPECT_EQ(length_at(london, WindowKind::kDay, "2026-10-25T12:00:00Z"), 25 * 3600);
  EXPECT_EQ(length_at(london, WindowKind::kDay, "2026-07-01T12:00:00Z"), 24 * 3600);
  const auto days = list(london, WindowKind::kDay, "2026-07-01T12:00:00Z");
  EXPECT_EQ(days[1], utc("2026-06-30T23:00:00Z"));  // midnight of summer time
}

TEST(Calendar, WhereMidnightIsSkippedTheDayStartsAfterTheChange) {
  // Cairo goes from 23:59:59 to 01:00 on 24 April 2026.
  const auto days = list(in("Africa/Cairo"), WindowKind::kDay, "2026-04-24T12:00:00Z");
  EXPECT_EQ(days[1], utc("2026-04-23T22:00:00Z"));
  EXPECT_EQ(days[2] - days[1], 23 * 3600);
}

TEST(Calendar, WhereMidnightComesTwiceTheDayStartsWithTheFirst) {
  // Havana repeats the hour from 00:00 on 1 November 2026.
  EXPECT_EQ(length_at(in("America/Havana"), WindowKind::kDay, "2026-11-01T12:00:00Z"), 25 * 3600);
  const auto days = list(in("America/Havana"), WindowKind::kDay, "2026-11-01T05:30:00Z");  // within the second 00:xx
  EXPECT_EQ(days[1], utc("2026-11-01T04:00:00Z"));
}

TEST(Calendar, ADayThatAZoneSkippedDoesNotExist) {
  // Apia went from 29 to 31 December 2011.
  const auto days = list(in("Pacific/Apia"), WindowKind::kDay, "2011-12-29T20:00:00Z");
  EXPECT_EQ(days[1], utc("2011-12-29T10:00:00Z"));
  EXPECT_EQ(days[2], utc("2011-12-30T10:00:00Z"));
  EXPECT_EQ(days[3], utc("2011-12-31T10:00:00Z"));
}

TEST(Calendar, HoursFollowTheLocalClock) {
  const auto kathmandu = list(in("Asia/Kathmandu"), WindowKind::kHour, "2026-01-01T00:00:00Z");  // UTC+5:45
  EXPECT_EQ(kathmandu[1], utc("2025-12-31T23:15:00Z"));
  EXPECT_EQ(kathmandu[2], utc("2026-01-01T00:15:00Z"));
  const auto london = list(in("Europe/London"), WindowKind::kHour, "2026-03-29T00:30:00Z");
  for (size_t i = 1; i < london.size(); ++i) EXPECT_EQ(london[i] - london[i - 1], 3600);
  EXPECT_GE(london.size(), 50u);
}

TEST(Calendar, WeeksStartOnMonday) {
  const auto weeks = list(in("UTC"), WindowKind::kWeek, "2026-11-22T23:59:59Z");  // a Sunday
  EXPECT_EQ(weeks[1], utc("2026-11-16T00:00:00Z"));
  EXPECT_EQ(weeks[2], utc("2026-11-23T00:00:00Z"));
  EXPECT_EQ(length_at(in("Europe/London"), WindowKind::kWeek, "2026-03-25T00:00:00Z"), 7 * 86'400 - 3600);
}

TEST(Calendar, MonthsAndYears) {
  const auto months = list(in("America/New_York"), WindowKind::kMonth, "2026-03-01T04:59:59Z");  // 28 February there
  EXPECT_EQ(months[0], utc("2026-01-01T05:00:00Z"));
  EXPECT_EQ(months[1], utc("2026-02-01T05:00:00Z"));
  EXPECT_EQ(months[2], utc("2026-03-01T05:00:00Z"));
  EXPECT_EQ(months[3], utc("2026-04-01T04:00:00Z"));
  const auto years = list(in("UTC"), WindowKind::kYear, "2028-12-31T23:59:59Z");
  EXPECT_EQ(years[1], utc("2028-01-01T00:00:00Z"));
  EXPECT_EQ(years[2], utc("2029-01-01T00:00:00Z"));
}

TEST(Calendar, TheThirtyFirstIsClampedAndRemembered) {
  Calendar calendar;
  calendar.anchor_s = utc("2026-01-31T10:30:00Z");
  EXPECT_EQ(period_start(calendar, 0), utc("2026-01-31T10:30:00Z"));
  EXPECT_EQ(period_start(calendar, 1), utc("2026-02-28T10:30:00Z"));
  EXPECT_EQ(period_start(calendar, 2), utc("2026-03-31T10:30:00Z"));
  EXPECT_EQ(period_start(calendar, 3), utc("2026-04-30T10:30:00Z"));
  EXPECT_EQ(period_start(calendar, 25), utc("2028-02-29T10:30:00Z"));
  EXPECT_EQ(period_start(calendar, -2), utc("2025-11-30T10:30:00Z"));
  const auto periods = list(calendar, WindowKind::kBillingPeriod, "2026-02-28T10:29:59Z");
  EXPECT_EQ(periods[1], utc("2026-01-31T10:30:00Z"));
  EXPECT_EQ(periods[2], utc("2026-02-28T10:30:00Z"));
  EXPECT_EQ(periods[3], utc("2026-03-31T10:30:00Z"));
}

TEST(Calendar, YearlyPeriodsFromALeapDay) {
  Calendar calendar;
  calendar.interval = manifest::Interval::kYear;
  calendar.anchor_s = utc("2024-02-29T00:00:00Z");
  EXPECT_EQ(period_start(calendar, 1), utc("2025-02-28T00:00:00Z"));
  EXPECT_EQ(period_start(calendar, 4), utc("2028-02-29T00:00:00Z"));
  const auto periods = list(calendar, WindowKind::kBillingPeriod, "2026-06-01T00:00:00Z");
  EXPECT_EQ(periods[1], utc("2026-02-28T00:00:00Z"));
  EXPECT_EQ(periods[2], utc("2027-02-28T00:00:00Z"));
}

TEST(Calendar, PeriodsBeforeTheAnchorExist) {
  Calendar calendar;
  calendar.anchor_s = utc("2026-06-15T00:00:00Z");
  const auto periods = list(calendar, WindowKind::kBillingPeriod, "2026-01-01T00:00:00Z");
  EXPECT_EQ(periods[1], utc("2025-12-15T00:00:00Z"));
}

TEST(Calendar, AZoneThatIsGoneIsAnError) { EXPECT_FALSE(boundaries(in("Nowhere/Land"), WindowKind::kDay, 0, 0)); }

}  // namespace
}  // namespace tallygate::plan
