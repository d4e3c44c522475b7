// A tenant's limits in time: which window a moment falls in, how its bucket is named, what is used of it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/tenant/model.h"

namespace tallygate::api {

struct Call;

struct Window {
  int64_t start_s = 0, end_s = 0;
};
// Nothing where the limit lives in Redis alone or the moment is outside of what the manifests' compiler knows.
std::optional<Window> window_at(const tenant::Limit& limit, int64_t at_s);

// Of the ledger: every bucket that usage of this meter at this moment counts in.
std::vector<std::string> buckets_of(const tenant::Tenant& tenant, const MeterName& meter, tenant::Settlement settlement,
                                    int64_t at_s);

// Units booked, now.
struct UsedUnits {
  std::map<std::string, int64_t, std::less<>> limits;  // in the current window
  std::map<std::string, int64_t, std::less<>> wallet;  // meters that the wallet settles: since the first unit
  std::map<std::string, int64_t, std::less<>> month;   // every meter: of this month, UTC
  int64_t of_limit(std::string_view name) const;
  // Units that came before, for a price: the wallet's count where it settles, else the month's.
  int64_t of_meter(std::string_view name) const;
};
Result<UsedUnits> used_units(Call& call, const tenant::Tenant& tenant);

// [start, end) of the month, UTC, that holds this moment; seconds.
Window month_at(int64_t at_s);

}  // namespace tallygate::api
