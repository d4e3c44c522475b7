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

using Faults = std::vector<std::pair<std::string, std::string>>;  // field, what is wrong with it

struct UsageItem {
  std::string id;     // unique per tenant: what makes it once
  std::string place;  // of the item in the request, for faults: "events[3]."
  std::string meter;
  int64_t units = 0;
  int64_t at_ns = 0;
  std::string dimensions;  // JSON
  std::string fingerprint;
  std::string spelled;  // the fingerprint as earlier versions made it: of the moment as it was written
  Faults faults = {};
};

// Reads meter, units and dimensions of an object; faults stay in `fields`.
void read_usage(Fields& fields, UsageItem& item);
// Checks the moment against what may still be billed (core/billable.h): 34 days back, 5 minutes ahead.
void check_moment(const Call& call, Fields& fields, const std::string& name, int64_t at_ns);

// Fingerprints of what the item says, `text` being all but its moment, and of the moment as it was `written`, if it
// was.
void set_fingerprint(UsageItem& item, const std::string& text, const std::string& written);

enum class Booking : uint8_t {
  kOne,   // 201 with its id and whether it was there before
  kAll,   // all or none, in one transaction: 201 with a list of these
  kGood,  // those that have no fault: 200 with a list of these and of the others' faults
};
// An item that comes twice, and says the same, is one.
http::Response book_usage(Call& call, std::vector<UsageItem> items, Booking booking);

}  // namespace tallygate::api
