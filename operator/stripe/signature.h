// Whether Stripe signed a webhook's body: header Stripe-Signature, "t=1700000000,v1=<hex>[,v1=<hex>…]", HMAC-SHA256 over
// "{t}.{body}" under any of the secrets. Pure. https://docs.stripe.com/webhooks/signature
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tallygate::stripe {

// How far the moment of signing may be from ours, before and after.
inline constexpr int64_t kSignatureTolerance_s = 300;

// Empty: it did. Else why not, for our logs. Takes the same time for every signature that is wrong.
std::string signature_fault(std::string_view header, std::string_view body, std::span<const std::string> secrets,
                            int64_t now_s);

}  // namespace tallygate::stripe
