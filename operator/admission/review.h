// AdmissionReview (admission.k8s.io/v1), in and out.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace tallygate::admission {

using Json = nlohmann::json;

struct Review {
  std::string uid, operation, sub_resource, name_space;
  Json object, old_object;  // null where there is none
};
// kInvalid: it is no review.
Result<Review> parse_review(std::string_view text);

struct Answer {
  bool allowed = true;
  std::string message;  // of a refusal
  std::vector<std::string> warnings;
  Json patch;  // JSON patch operations; null or empty: none
};
std::string to_text(const std::string& uid, const Answer& answer);

}  // namespace tallygate::admission
