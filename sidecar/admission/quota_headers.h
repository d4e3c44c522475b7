// What a response says about quotas (A5): RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-10,
// structured fields), the legacy X-RateLimit-* trio for the limit nearest to its end, and the cap's state.
#pragma once

#include <span>
#include <string_view>

#include "sidecar/admission/plan.h"

namespace tallygate::sidecar {

enum class CapState : uint8_t { kOk, kWarned, kSoftOver, kGrace, kHard };
const char* to_string(CapState state);

// From 80 % on a limit is warned; past a soft one it is over, or in grace where that ends.
CapState cap_state(const PlanItem& item);

// Units used of a limit, as far as is known here; never less than 0. Nothing is before anything was told.
int64_t used_of(const PlanItem& item);
// Of the amount, not of what grace adds; never less than 0.
int64_t remaining_of(const PlanItem& item);

// Whether `units` that cannot be had now lie unspent with other sidecars: those give back within seconds what they do
// not need.
bool comes_back(const PlanItem& item, int64_t units);

// The greatest integer of a structured field (RFC 9651 3.3.1): greater ones are written as this.
inline constexpr int64_t kFieldIntegerMax = 999'999'999'999'999;

// "Name: value\r\n…"; returns the bytes written, 0 where there is no limit or no room. Figures that are not known are
// left out. `denied`: the item that a denial is about, which the legacy trio is then of.
size_t write_quota_headers(const Plan& plan, int64_t now_s, std::span<char> out, const PlanItem* denied = nullptr);

}  // namespace tallygate::sidecar
