// The version of Stripe's API that everything here is written for: sent with each call, and held against each event.
#pragma once

namespace tallygate::stripe {

inline constexpr char kApiVersion[] = "2026-08-26.dahlia";

}  // namespace tallygate::stripe
