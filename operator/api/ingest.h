// Usage that no proxy can see, booked once by its request id.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/http/message.h"
#include "operator/api/fields.h"

namespace tallygate::api {

struct Call;

inline constexpr int64_t kUsageUnitsMax = 1'000'000'000'000;
// Usage of before this moment cannot be billed any more.
int64_t oldest_billable_ns(int64_t now_ns);

struct UsageItem {
  std::string id;     // unique per tenant: what makes it once
  std::string place;  // of the item in the request, for faults: "events[3]."
  std::string meter;
  int64_t units = 0;
  int64_t at_ns = 0;
  std::string dimensions;  // JSON
  std::string fingerprint;
};

// Reads meter, units and dimensions of an object; faults stay in `fields`.
void read_usage(Fields& fields, UsageItem& item);
// Checks the moment against what may still be billed: 35 days back, 5 minutes ahead.
void check_moment(const Call& call, Fields& fields, const std::string& name, int64_t at_ns);

// All or none, in one transaction. 201 with each item's id and whether it was there before.
http::Response book_usage(Call& call, const std::vector<UsageItem>& items, bool as_list);

}  // namespace tallygate::api
