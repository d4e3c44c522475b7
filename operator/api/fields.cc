#include "operator/api/fields.h"

#include "core/telemetry/json_text.h"
#include "core/utf8.h"
#include "core/json_strict.h"
#include "operator/api/text.h"

namespace tallygate::api {
namespace {

using nlohmann::json;

constexpr size_t kLabelsMax = 16;
constexpr size_t kFaultsMax = 32;
constexpr Micros kAmountMax = 1'000'000'000'000'000;

bool is_currency(std::string_view text) { return currency_digits(text).has_value(); }

// Splits at '&'; nothing where an escape is broken or a name comes twice.
std::optional<std::map<std::string, std::string>> parse_query(const std::string& query) {
  std::map<std::string, std::string> out;
  std::string_view rest = query;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('&'), rest.size());
    const std::string_view pair = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (pair.empty()) continue;
    const size_t equals = std::min(pair.find('='), pair.size());
    const auto name = http::percent_decode(pair.substr(0, equals), true);
    const auto value = http::percent_decode(equals < pair.size() ? pair.substr(equals + 1) : "", true);
    if (!name || !value || !out.emplace(*name, *value).second) return std::nullopt;
  }
  return out;
}

}  // namespace

struct Fields::Json {
  json value = json::object();
};

bool is_json_type(std::string_view content_type, std::string_view wanted) {
  const std::string_view type = content_type.substr(0, content_type.find(';'));
  const size_t end = type.find_last_not_of(" \t");
  if (end == std::string_view::npos || end + 1 != wanted.size()) return false;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const char c = type[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c) != wanted[i]) return false;
  }
  return true;
}

http::Response faulty_fields(const std::vector<std::pair<std::string, std::string>>& faults) {
  std::string errors = "[";
  for (size_t i = 0; i < faults.size() && i < kFaultsMax; ++i) {
    errors += i == 0 ? "{\"field\":" : ",{\"field\":";
    append_json_string(errors, faults[i].first);
    errors += ",\"detail\":";
    append_json_string(errors, faults[i].second);
    errors += '}';
  }
  return http::problem_response(
      {422, "InvalidFields", "Some fields are not as they must be.", "", {{"errors", errors + "]"}}});
}

Fields::Fields(const http::Request& request, Body body) : json_(std::make_unique<Json>()) {
  if (auto query = parse_query(request.query)) {
    query_ = std::move(*query);
  } else {
    whole_ =
        http::problem_response({400, "MalformedQuery", "The query has a broken escape or a parameter twice.", "", {}});
  }
  if (body == Body::kNone || (body == Body::kOptional && request.body.empty())) return;
  if (!is_json_type(request.header("content-type"), "application/json")) {
    whole_ = http::problem_response({415, "UnsupportedMediaType", "The body must be application/json.", "", {}});
    return;
  }
  std::string why;
  auto parsed = parse_strict(request.body, why);
  if (parsed && !parsed->is_object()) why = "it is no object";
  if (!why.empty()) {
    whole_ = http::problem_response({400, "MalformedJson", "The body cannot be read: " + why + ".", "", {}});
    return;
  }
  json_->value = std::move(*parsed);
}

Fields::Fields(std::string_view object, std::string prefix)
    : json_(std::make_unique<Json>()), prefix_(std::move(prefix)) {
  std::string why;
  auto parsed = parse_strict(object, why);
  if (parsed && parsed->is_object()) {
    json_->value = std::move(*parsed);
  } else {
    refuse("", "must be an object");
  }
}

Fields::Fields(Fields&&) noexcept = default;
Fields::~Fields() = default;

void Fields::refuse(const std::string& field, std::string detail) {
  faults_.emplace_back(prefix_ + field, std::move(detail));
}

std::string Fields::text(const std::string& name, size_t max, bool required) {
  asked_.insert(name);
  const auto found = json_->value.find(name);
  if (found == json_->value.end()) {
    if (required) refuse(name, "is required");
    return "";
  }
  if (!found->is_string()) {
    refuse(name, "must be a string");
    return "";
  }
  const auto& value = found->get_ref<const std::string&>();
  if (value.size() > max || (required && value.empty())) {
    refuse(name, "must have " + std::string(required ? "1" : "0") + " to " + std::to_string(max) + " bytes");
  } else if (!is_clean_text(value)) {
    refuse(name, "must have no control characters");
  } else {
    return value;
  }
  return "";
}

Micros Fields::amount(const std::string& name, Micros min, bool negative) {
  const std::string value = text(name, 40);
  if (value.empty()) return 0;
  const auto micros = parse_money(value, negative);
  if (!micros) {
    refuse(name, "must be a decimal string such as \"12.50\", with at most 6 decimals");
  } else if (*micros > kAmountMax || *micros < -kAmountMax || (!negative && *micros < min) ||
             (negative && *micros == 0)) {
    refuse(name,
           negative ? "must not be 0, nor beyond 1000000000" : "must be from " + format_money(min) + " to 1000000000");
  } else {
    return *micros;
  }
  return 0;
}

std::optional<Micros> Fields::optional_amount(const std::string& name, Micros min) {
  asked_.insert(name);
  if (!json_->value.contains(name)) return std::nullopt;
  return amount(name, min);
}

std::optional<std::string> Fields::currency(const std::string& name, bool required) {
  if (!required && !json_->value.contains(name)) {
    asked_.insert(name);
    return std::nullopt;
  }
  std::string value = text(name, 3);
  if (value.empty()) return std::nullopt;
  if (!is_currency(value)) {
    refuse(name, "must be a currency of ISO 4217, in upper case");
    return std::nullopt;
  }
  return value;
}

std::optional<int64_t> Fields::integer(const std::string& name, int64_t min, int64_t max, bool required) {
  asked_.insert(name);
  const auto found = json_->value.find(name);
  if (found == json_->value.end()) {
    if (required) refuse(name, "is required");
    return std::nullopt;
  }
  const bool fits = found->is_number_integer() &&
                    (!found->is_number_unsigned() || found->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX));
  if (!fits || found->get<int64_t>() < min || found->get<int64_t>() > max) {
    refuse(name, "must be an integer from " + std::to_string(min) + " to " + std::to_string(max));
    return std::nullopt;
  }
  return found->get<int64_t>();
}

std::optional<int64_t> Fields::moment(const std::string& name, bool required) {
  if (!required && !json_->value.contains(name)) {
    asked_.insert(name);
    return std::nullopt;
  }
  const std::string value = text(name, 64);
  if (value.empty()) return std::nullopt;
  auto ns = parse_moment(value);
  if (!ns) refuse(name, "must be a moment of RFC 3339 such as 2026-11-21T10:07:46Z");
  return ns;
}

std::vector<Fields> Fields::objects(const std::string& name, size_t max) {
  asked_.insert(name);
  std::vector<Fields> parts;
  const auto found = json_->value.find(name);
  if (found == json_->value.end()) return parts;
  if (!found->is_array() || found->size() > max) {
    refuse(name, "must be an array of at most " + std::to_string(max) + " objects");
    return parts;
  }
  for (const auto& object : *found) {
    parts.emplace_back(object.dump(), prefix_ + name + "[" + std::to_string(parts.size()) + "].");
  }
  return parts;
}

void Fields::take(Fields& part) {
  for (auto& fault : part.take_faults()) faults_.push_back(std::move(fault));
}

std::string Fields::labels(const std::string& name) {
  asked_.insert(name);
  const auto found = json_->value.find(name);
  if (found == json_->value.end()) return "{}";
  bool good = found->is_object() && found->size() <= kLabelsMax;
  if (good) {
    for (const auto& [key, value] : found->items()) {
      good = good && !key.empty() && key.size() <= 63 && is_clean_text(key) && value.is_string() &&
             value.get_ref<const std::string&>().size() <= 255 && is_clean_text(value.get_ref<const std::string&>());
    }
  }
  if (!good) {
    refuse(name, "must be an object of at most 16 strings, names to 63 and values to 255 bytes");
    return "{}";
  }
  return found->dump();
}

std::optional<std::string> Fields::query_text(const std::string& name, size_t max) {
  asked_query_.insert(name);
  const auto found = query_.find(name);
  if (found == query_.end()) return std::nullopt;
  if (found->second.empty() || found->second.size() > max || !is_clean_text(found->second)) {
    refuse(name, "must have 1 to " + std::to_string(max) + " bytes, no control characters");
    return std::nullopt;
  }
  return found->second;
}

std::optional<std::string> Fields::query_currency(const std::string& name) {
  auto value = query_text(name, 3);
  if (value && !is_currency(*value)) {
    refuse(name, "must be a currency of ISO 4217, in upper case");
    return std::nullopt;
  }
  return value;
}

std::optional<std::string> Fields::query_word(const std::string& name, const std::vector<std::string>& words) {
  auto value = query_text(name, 64);
  if (!value) return value;
  std::string list;
  for (const auto& word : words) {
    if (word == *value) return value;
    list += (list.empty() ? "" : ", ") + word;
  }
  refuse(name, "must be one of " + list);
  return std::nullopt;
}

std::optional<int64_t> Fields::query_integer(const std::string& name, int64_t min, int64_t max) {
  const auto value = query_text(name, 20);
  if (!value) return std::nullopt;
  auto number = parse_integer(*value, min, max);
  if (!number) refuse(name, "must be an integer from " + std::to_string(min) + " to " + std::to_string(max));
  return number;
}

std::optional<int64_t> Fields::query_moment(const std::string& name) {
  const auto value = query_text(name, 64);
  if (!value) return std::nullopt;
  auto ns = parse_moment(*value);
  if (!ns) refuse(name, "must be a moment of RFC 3339 such as 2026-11-21T10:07:46Z");
  return ns;
}

std::optional<int64_t> Fields::query_cursor(char kind) {
  const auto value = query_text("cursor", 64);
  if (!value) return std::nullopt;
  auto id = read_cursor(kind, *value);
  if (!id) refuse("cursor", "must be a nextCursor of this list");
  return id;
}

std::optional<http::Response> Fields::refusal() {
  if (whole_) return whole_;
  refuse_unasked();
  if (faults_.empty()) return std::nullopt;
  return faulty_fields(faults_);
}

std::vector<std::pair<std::string, std::string>> Fields::take_faults() {
  refuse_unasked();
  return std::move(faults_);
}

void Fields::refuse_unasked() {
  for (const auto& [name, value] : json_->value.items()) {
    if (!asked_.contains(name))
      refuse(is_clean_text(name) ? std::string(cut_utf8(name, 63)) : "?", "is no field of this request");
  }
  for (const auto& [name, value] : query_) {
    if (!asked_query_.contains(name))
      refuse(is_clean_text(name) ? std::string(cut_utf8(name, 63)) : "?", "is no parameter of this request");
  }
}

std::string Fields::canonical() const { return json_->value.dump(); }

}  // namespace tallygate::api
