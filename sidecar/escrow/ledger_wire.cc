#include "sidecar/escrow/ledger_wire.h"

#include <map>
#include <nlohmann/json.hpp>

#include "core/money.h"
#include "core/telemetry/json_text.h"

namespace tallygate::sidecar {
namespace {

using nlohmann::json;

constexpr int kDepthMax = 32;

// Looked at before it is parsed: what is nested without end overflows the stack of whoever walks it.
bool within_depth(std::string_view body) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < body.size() && depth <= kDepthMax; ++i) {
    const char c = body[i];
    if (in_string && c == '\\')
      ++i;
    else if (c == '"')
      in_string = !in_string;
    else if (!in_string && (c == '[' || c == '{'))
      ++depth;
    else if (!in_string && (c == ']' || c == '}'))
      --depth;
  }
  return depth <= kDepthMax;
}

// A member that is an integer from 0 to 2^53 − 1; −1: there is none.
int64_t integer(const json& object, const char* name) {
  if (!object.is_object()) return -1;
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number_integer()) return -1;
  if (found->is_number_unsigned() && found->get<uint64_t>() > static_cast<uint64_t>(kMaxInteger)) return -1;
  return std::max<int64_t>(-1, found->get<int64_t>());
}

std::string text(const json& object, const char* name) {
  if (!object.is_object()) return "";
  const auto found = object.find(name);
  return found == object.end() || !found->is_string() ? "" : found->get<std::string>();
}

bool read_status(const std::string& word, LeaseStatus* out) {
  static constexpr std::pair<const char*, LeaseStatus> kWords[] = {
      {"GRANT", LeaseStatus::kGrant}, {"DRY", LeaseStatus::kDry},           {"WAIT", LeaseStatus::kWait},
      {"EPOCH", LeaseStatus::kEpoch}, {"REG", LeaseStatus::kNotRegistered}, {"SUSPENDED", LeaseStatus::kSuspended}};
  for (const auto& [name, status] : kWords) {
    if (word != name) continue;
    *out = status;
    return true;
  }
  return false;
}

bool read_buckets(const LeaseRequest& request, const json& list, LeaseAnswer* answer) {
  if (!list.is_array()) return false;
  for (const auto& object : list) {
    LeaseAnswer::Bucket bucket{text(object, "bucket"), integer(object, "granted"), integer(object, "returned"),
                               integer(object, "remaining")};
    if (bucket.granted < 0 || bucket.returned < 0 || bucket.remaining < 0) return false;
    answer->buckets.push_back(std::move(bucket));
  }
  // Where the ledger did not come so far as to look at them there are none.
  if (answer->buckets.empty()) return answer->status != LeaseStatus::kGrant || request.buckets.empty();
  bool all = answer->buckets.size() == request.buckets.size();
  for (size_t i = 0; all && i < request.buckets.size(); ++i)
    all = answer->buckets[i].bucket == request.buckets[i].bucket;
  return all;
}

// In the answer they stand in any order.
bool read_closed(const LeaseRequest& request, const json& list, LeaseAnswer* answer) {
  if (!list.is_array()) return false;
  if (request.closed.empty()) return true;
  std::map<std::pair<std::string, int64_t>, int64_t> told;
  for (const auto& object : list)
    told[{text(object, "bucket"), integer(object, "epoch")}] = integer(object, "absorbed");
  for (const auto& wanted : request.closed) {
    const auto found = told.find({wanted.bucket, wanted.epoch});
    const int64_t absorbed = found == told.end() ? -1 : found->second;
    // Of an account that is not there nothing was lent.
    answer->absorbed.push_back(std::max<int64_t>(0, absorbed));
    if (absorbed > wanted.spent) return false;
  }
  return true;
}

}  // namespace

std::string to_json(const LeaseRequest& request) {
  JsonWriter json;
  json.begin_object();
  json.member("incarnation", request.incarnation);
  json.member("epoch", request.epoch);
  json.member("version", request.version);
  json.key("buckets");
  json.begin_array();
  for (const auto& bucket : request.buckets) {
    json.begin_object();
    json.member("bucket", bucket.bucket);
    json.member("least", bucket.least);
    json.member("best", bucket.best);
    json.member("returned", bucket.returned);
    json.end_object();
  }
  json.end_array();
  json.key("closed");
  json.begin_array();
  for (const auto& closed : request.closed) {
    json.begin_object();
    json.member("bucket", closed.bucket);
    json.member("epoch", closed.epoch);
    json.member("spent", closed.spent);
    json.end_object();
  }
  json.end_array();
  json.end_object();
  return json.take();
}

Result<LeaseAnswer> lease_answer(const LeaseRequest& request, std::string_view body) {
  if (!within_depth(body)) {
    return fail(Errc::kInvalid, "the ledger's answer is nested deeper than " + std::to_string(kDepthMax));
  }
  const json document = json::parse(body, nullptr, false);
  LeaseAnswer answer;
  answer.epoch = integer(document, "epoch");
  answer.version = integer(document, "version");
  if (!document.is_object() || !read_status(text(document, "status"), &answer.status) || answer.epoch < 0 ||
      answer.version < 0 || !document.contains("buckets") || !document.contains("closed") ||
      !read_buckets(request, document["buckets"], &answer) || !read_closed(request, document["closed"], &answer)) {
    return fail(Errc::kInvalid, "the ledger's answer is no lease");
  }
  const auto suspended = document.find("suspended");
  answer.suspended = suspended != document.end() && suspended->is_boolean() && suspended->get<bool>();
  if (document.contains("tenant")) answer.tenant = document["tenant"].dump();
  return answer;
}

}  // namespace tallygate::sidecar
