#include "operator/stripe/event.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace tallygate::stripe {
namespace {

using Json = nlohmann::json;

constexpr size_t kNameMax = 255;
constexpr int64_t kCreatedMax_s = 9'000'000'000;  // nanoseconds of it still fit

bool is_name(std::string_view text, std::string_view further) {
  return !text.empty() && text.size() <= kNameMax && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || further.find(c) != further.npos;
  });
}

std::string text_of(const Json& object, const char* name) {
  const auto it = object.find(name);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

std::string object_id_of(const Json& event) {
  const auto data = event.find("data");
  if (data == event.end() || !data->is_object()) return "";
  const auto object = data->find("object");
  if (object == data->end() || !object->is_object()) return "";
  std::string id = text_of(*object, "id");
  return is_name(id, "_-") ? id : "";
}

}  // namespace

Result<Event> read_event(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return fail(Errc::kInvalid, "the body is no JSON object");
  if (text_of(json, "object") != "event") return fail(Errc::kInvalid, "object must be \"event\"");
  Event event;
  event.id = text_of(json, "id");
  if (!event.id.starts_with("evt_") || !is_name(event.id, "_")) {
    return fail(Errc::kInvalid, "id must be that of an event, evt_… of letters, digits and underscores");
  }
  event.type = text_of(json, "type");
  if (!is_name(event.type, "._")) return fail(Errc::kInvalid, "type must be that of an event, such as refund.created");
  const auto livemode = json.find("livemode");
  if (livemode == json.end() || !livemode->is_boolean()) return fail(Errc::kInvalid, "livemode must be true or false");
  event.livemode = livemode->get<bool>();
  const auto created = json.find("created");
  if (created == json.end() || !created->is_number_integer() ||
      (created->is_number_unsigned() && created->get<uint64_t>() > static_cast<uint64_t>(kCreatedMax_s)) ||
      created->get<int64_t>() < 0) {
    return fail(Errc::kInvalid, "created must be a moment, in seconds since 1970");
  }
  event.created_s = created->get<int64_t>();
  event.api_version = text_of(json, "api_version");
  if (!event.api_version.empty() && !is_name(event.api_version, ".-_")) {
    return fail(Errc::kInvalid, "api_version must be that of Stripe's API, such as 2026-08-26.dahlia");
  }
  event.object_id = object_id_of(json);
  return event;
}

ledger::Params accept_params(const Event& event, std::string_view json, const char* found_by, int64_t now_ns) {
  return {event.id,
          event.type,
          event.livemode,
          event.api_version,
          event.object_id,
          json,
          ledger::timestamp_text(event.created_s * 1'000'000'000),
          found_by,
          ledger::timestamp_text(now_ns)};
}

}  // namespace tallygate::stripe
