// One Meter Event of Stripe: what one aggregate of the ledger becomes. Pure values.
// https://docs.stripe.com/api/billing/meter-event/create
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/billable.h"

namespace tallygate::billing {

inline constexpr size_t kMaxIdentifier = 100;
inline constexpr int64_t kMaxEventAgeS = kStripeTakesS;
// For so long a repeated identifier certainly counts once: Stripe says "at least 24 hours".
inline constexpr int64_t kIdentifierKeptS = int64_t{23} * 3600;

struct MeterEvent {
  std::string event_name;  // the meter's
  std::string customer;    // cus_…
  int64_t value = 0;       // units
  std::string identifier;
  int64_t timestamp_s = 0;  // start of the usage's minute
  bool operator==(const MeterEvent&) const = default;
};

// Deterministic, unique per aggregate, at most kMaxIdentifier of [a-z0-9_-]:
//   tg-<24 hex digits of SHA-256(tenant, customer, meter)>-<meter, shortened>-<minute, in minutes>-<revision>
// and, of a later revision by a ledger that was recovered from a backup, -g<generation>: `recovered` (migration 0055).
// The customer is part of it, so that two installations which name their tenants alike never take each other's events
// for duplicates.
std::string event_identifier(std::string_view tenant, std::string_view customer, std::string_view meter,
                             int64_t minute_s, int64_t revision, int64_t recovered = 0);

// application/x-www-form-urlencoded, in a fixed order.
std::string form_body(const MeterEvent& event);

// Differs for every attempt: a key that Stripe has answered with a 500 would replay that 500 for a day, although the
// identifier alone makes a repetition harmless. At most 255 characters.
std::string idempotency_key(const MeterEvent& event, int64_t attempt);

}  // namespace tallygate::billing
