#include "operator/admission/validate.h"

#include "operator/admission/pod.h"
#include "operator/manifest/read.h"

namespace tallygate::admission {
namespace {

constexpr size_t kFaultsShown = 10;

// What the decoder looks at besides names, which do not change.
bool same_content(const Json& a, const Json& b) {
  for (const char* part : {"/spec", "/metadata/labels", "/metadata/annotations"}) {
    if (at(a, part) != at(b, part)) return false;
  }
  return true;
}

std::string describe(const manifest::Fault& fault) {
  std::string text = fault.field.empty() ? "" : fault.field + ": ";
  text += fault.message;
  return fault.fix.empty() ? text : text + " (" + fault.fix + ")";
}

}  // namespace

Answer validate(const Review& review) {
  Answer answer;
  const bool writes = review.operation == "CREATE" || review.operation == "UPDATE";
  if (!writes || !review.sub_resource.empty() || !at(review.object, "/metadata/deletionTimestamp").is_null()) {
    return answer;
  }
  if (review.operation == "UPDATE" && same_content(review.object, review.old_object)) return answer;
  Json object = review.object;
  // A name that is still to be made up.
  if (text_at(object, "/metadata/name").empty()) {
    object["metadata"]["name"] = text_at(object, "/metadata/generateName") + "x";
  }
  const auto content = manifest::read_manifest("", object.dump(), manifest::Syntax::kJson);
  for (const auto& warning : content.warnings) answer.warnings.push_back(describe(warning));
  if (content.faults.empty()) return answer;
  answer.allowed = false;
  for (size_t i = 0; i < content.faults.size() && i < kFaultsShown; ++i) {
    answer.message += (i == 0 ? "" : "; ") + describe(content.faults[i]);
  }
  if (content.faults.size() > kFaultsShown) {
    answer.message += "; and " + std::to_string(content.faults.size() - kFaultsShown) + " more";
  }
  return answer;
}

}  // namespace tallygate::admission
