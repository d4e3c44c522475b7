// How long usage can still be billed, from the moment when it took place. Stripe takes meter events of the past 35
// days. Whoever reports usage hears "too late" at the door, a day before: the way to Stripe has intervals, pauses and
// retries, and what is taken there must arrive.
#pragma once

#include <cstdint>

namespace tallygate {

inline constexpr int64_t kDayS = 86'400;
// What Stripe takes, an hour less: clocks disagree.
inline constexpr int64_t kStripeTakesS = 35 * kDayS - 3600;
// What is taken from those who report usage.
inline constexpr int64_t kUsageTakenDays = 34;
inline constexpr int64_t kUsageTakenS = kUsageTakenDays * kDayS;
static_assert(kStripeTakesS - kUsageTakenS >= 12 * 3600, "room for outages on the way");

}  // namespace tallygate
