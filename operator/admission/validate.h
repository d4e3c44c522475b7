// Whether an object of ours may be stored: by its form alone, by the decoder that reads it later. What depends on other
// objects (a plan that is not there yet, an identity that another has) is told by conditions: objects come in any
// order.
#pragma once

#include "operator/admission/review.h"

namespace tallygate::admission {

// Refuses neither deletions, nor what is on its way out, nor changes that leave alone what was stored before.
Answer validate(const Review& review);

}  // namespace tallygate::admission
