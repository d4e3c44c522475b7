#include "operator/admission/review.h"

#include "core/base64.h"
#include "operator/admission/pod.h"

namespace tallygate::admission {
namespace {

constexpr char kApiVersion[] = "admission.k8s.io/v1";
// What clients show: Kubernetes drops what is longer than all together may be.
constexpr size_t kWarningMax = 250;

}  // namespace

Result<Review> parse_review(std::string_view text) {
  Json body = Json::parse(text, nullptr, false);
  if (!body.is_object() || text_at(body, "/apiVersion") != kApiVersion || text_at(body, "/kind") != "AdmissionReview" ||
      text_at(body, "/request/uid").empty()) {
    return fail(Errc::kInvalid, std::string("no AdmissionReview of ") + kApiVersion);
  }
  Json& request = body["request"];
  Review review;
  review.uid = text_at(request, "/uid");
  review.operation = text_at(request, "/operation");
  review.sub_resource = text_at(request, "/subResource");
  review.name_space = text_at(request, "/namespace");
  if (request.contains("object")) review.object = std::move(request["object"]);
  if (request.contains("oldObject")) review.old_object = std::move(request["oldObject"]);
  return review;
}

std::string to_text(const std::string& uid, const Answer& answer) {
  Json response = {{"uid", uid}, {"allowed", answer.allowed}};
  if (!answer.allowed) response["status"] = {{"code", 422}, {"reason", "Invalid"}, {"message", answer.message}};
  for (const std::string& warning : answer.warnings) response["warnings"].push_back(warning.substr(0, kWarningMax));
  if (!answer.patch.empty()) {
    response["patchType"] = "JSONPatch";
    response["patch"] = base64_encode(answer.patch.dump());
  }
  return Json{{"apiVersion", kApiVersion}, {"kind", "AdmissionReview"}, {"response", std::move(response)}}.dump(
      -1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace tallygate::admission
