#include "operator/api/provider/payload.h"

#include "operator/api/fields.h"
#include "core/json_strict.h"
#include "operator/api/text.h"

namespace tallygate::api {
namespace {

using nlohmann::json;

constexpr JsonRules kRules{.levels_max = 64, .exact_numbers = true};
constexpr size_t kExternalIdMax = 255;

// Null where there is nothing, or an explicit null.
const json* find(const json& document, const std::string& pointer) {
  try {
    const json::json_pointer path(pointer);
    if (!document.contains(path)) return nullptr;
    const json& found = document.at(path);
    return found.is_null() ? nullptr : &found;
  } catch (const json::exception&) {
    return nullptr;
  }
}

}  // namespace

struct Payload::Json {
  json value = json::object();
};

Payload::Payload(const http::Request& request) : json_(std::make_unique<Json>()) {
  if (!is_json_type(request.header("content-type"), "application/json")) {
    whole_ = http::problem_response({415, "UnsupportedMediaType", "The body must be application/json.", "", {}});
    return;
  }
  std::string why;
  auto parsed = parse_strict(request.body, why, kRules);
  if (parsed && !parsed->is_object()) why = "it is no object";
  if (!why.empty()) {
    whole_ = http::problem_response({400, "MalformedJson", "The body cannot be read: " + why + ".", "", {}});
    return;
  }
  json_->value = std::move(*parsed);
}

Payload::Payload(const std::map<std::string, std::string>& form, const std::map<std::string, std::string>& query)
    : json_(std::make_unique<Json>()) {
  json_->value = form;
  json_->value["query"] = query;
}

Payload::~Payload() = default;

void Payload::refuse(std::string pointer, std::string detail) {
  faults_.emplace_back(std::move(pointer), std::move(detail));
}

std::string Payload::text(const std::string& pointer, size_t max, bool required) {
  const json* found = find(json_->value, pointer);
  if (found == nullptr) {
    if (required) refuse(pointer, "is required");
    return "";
  }
  if (!found->is_string()) {
    refuse(pointer, "must be a string");
    return "";
  }
  const auto& value = found->get_ref<const std::string&>();
  if (value.empty() || value.size() > max || !is_clean_text(value)) {
    refuse(pointer, "must have 1 to " + std::to_string(max) + " bytes, no control characters");
    return "";
  }
  return value;
}

std::optional<Decimal> Payload::decimal(const std::string& pointer, bool required) {
  const json* found = find(json_->value, pointer);
  if (found == nullptr) {
    if (required) refuse(pointer, "is required");
    return std::nullopt;
  }
  const auto value = Decimal::parse(found->is_string() ? found->get_ref<const std::string&>() : number_text(*found));
  if (!value) {
    refuse(pointer, value.error().message);
    return std::nullopt;
  }
  return *value;
}

std::optional<std::string> Payload::currency(const std::string& pointer) {
  std::string value = text(pointer, 3, false);
  if (value.empty()) return std::nullopt;
  for (char& c : value) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  if (!currency_digits(value)) {
    refuse(pointer, "must be a currency of ISO 4217");
    return std::nullopt;
  }
  return value;
}

std::optional<int64_t> Payload::moment(const std::string& pointer) {
  const std::string value = text(pointer, 64, false);
  if (value.empty()) return std::nullopt;
  auto ns = parse_moment(value);
  if (!ns) refuse(pointer, "must be a moment of RFC 3339 such as 2026-11-21T10:07:46Z");
  return ns;
}

std::string Payload::external_id(const std::string& pointer) const {
  auto found = pointer.empty() ? std::nullopt : text_at(json_->value, pointer);
  return found && found->size() <= kExternalIdMax && is_clean_text(*found) ? std::move(*found) : "";
}

std::optional<http::Response> Payload::refusal() const {
  if (whole_) return whole_;
  if (faults_.empty()) return std::nullopt;
  return faulty_fields(faults_);
}

}  // namespace tallygate::api
