// Amounts as Stripe takes them: whole units of a currency's own smallest part, within its least and its most.
// https://docs.stripe.com/currencies
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/money.h"

namespace tallygate::stripe {

// kInvalid: what is wrong with it, as the rest of a sentence about the amount: "must be at least 0.50 USD".
Result<int64_t> to_minor(Micros amount, const std::string& currency);

}  // namespace tallygate::stripe
