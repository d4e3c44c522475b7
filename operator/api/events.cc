// CloudEvents 1.0 over HTTP: structured (one event) and batched. Extension attributes are taken and not looked at.
#include <set>

#include "core/utf8.h"
#include "operator/api/call.h"
#include "operator/api/ingest.h"
#include "core/json_strict.h"
#include "operator/api/service_tokens.h"
#include "operator/api/text.h"

namespace tallygate::api {
namespace {

using nlohmann::json;
using Faults = std::vector<std::pair<std::string, std::string>>;

constexpr char kEventType[] = "dev.tallygate.usage.v1";
constexpr size_t kEventsMax = 100;
constexpr size_t kIdMax = 255;

// A context attribute: a string of 1 to 255 clean bytes; empty after a fault.
std::string attribute(const json& event, const char* name, const std::string& place, bool required, Faults& faults) {
  const auto found = event.find(name);
  if (found == event.end()) {
    if (required) faults.emplace_back(place + name, "is required");
    return "";
  }
  if (found->is_string()) {
    const auto& text = found->get_ref<const std::string&>();
    if (!text.empty() && text.size() <= kIdMax && is_clean_text(text)) return text;
  }
  faults.emplace_back(place + name, "must be a string of 1 to 255 bytes, no control characters");
  return "";
}

bool is_attribute_name(std::string_view name) {
  for (const char c : name) {
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))) return false;
  }
  return !name.empty() && name.size() <= 20;
}

UsageItem read_event(const Call& call, const json& event, const std::string& place, Faults& faults) {
  static const std::set<std::string> kKnown = {"specversion", "id",         "source",          "type", "time",
                                               "subject",     "dataschema", "datacontenttype", "data"};
  UsageItem item;
  item.place = place;
  if (!event.is_object()) {
    faults.emplace_back(place.empty() ? "body" : place.substr(0, place.size() - 1), "must be an event");
    return item;
  }
  for (const auto& [name, value] : event.items()) {
    if (!kKnown.contains(name) && !is_attribute_name(name)) {
      faults.emplace_back(place + (is_clean_text(name) ? std::string(cut_utf8(name, 63)) : "?"),
                          "is no attribute of CloudEvents 1.0");
    }
  }
  if (attribute(event, "specversion", place, true, faults) != "1.0")
    faults.emplace_back(place + "specversion", "must be \"1.0\"");
  if (attribute(event, "type", place, true, faults) != kEventType) {
    faults.emplace_back(place + "type", std::string("must be \"") + kEventType + "\"");
  }
  const std::string id = attribute(event, "id", place, true, faults);
  const std::string source = attribute(event, "source", place, true, faults);
  attribute(event, "subject", place, false, faults);
  attribute(event, "dataschema", place, false, faults);
  const std::string type = attribute(event, "datacontenttype", place, false, faults);
  if (!type.empty() && !is_json_type(type, "application/json")) {
    faults.emplace_back(place + "datacontenttype", "must be application/json");
  }
  // Source and id together name an event; a hash keeps them within one key's length.
  item.id = "ce:" + sha256_hex(source + '\n' + id);
  item.at_ns = call.now_ns;
  Fields data(event.contains("data") ? event["data"].dump() : "null", place + "data.");
  read_usage(data, item);
  if (const std::string time = attribute(event, "time", place, false, faults); !time.empty()) {
    if (const auto at_ns = parse_moment(time)) {
      item.at_ns = *at_ns;
      Fields moment("{}", place);
      check_moment(call, moment, "time", item.at_ns);
      for (auto& fault : moment.take_faults()) faults.push_back(std::move(fault));
    } else {
      faults.emplace_back(place + "time", "must be a moment of RFC 3339 such as 2026-11-21T10:07:46Z");
    }
  }
  item.fingerprint = sha256_hex(data.canonical() + (event.contains("time") ? event["time"].dump() : ""));
  for (auto& fault : data.take_faults()) faults.push_back(std::move(fault));
  return item;
}

}  // namespace

http::Response record_events(Call& call) {
  const std::string_view type = call.request.header("content-type");
  const bool batch = is_json_type(type, "application/cloudevents-batch+json");
  if (!batch && !is_json_type(type, "application/cloudevents+json")) {
    return http::problem_response(
        {415,
         "UnsupportedMediaType",
         "The body must be application/cloudevents+json or application/cloudevents-batch+json.",
         "",
         {}});
  }
  Fields query(call.request, Fields::Body::kNone);
  if (auto refused = query.refusal()) return *refused;
  std::string why;
  const auto body = parse_strict(call.request.body, why);
  if (!body) return http::problem_response({400, "MalformedJson", "The body cannot be read: " + why + ".", "", {}});
  Faults faults;
  std::vector<UsageItem> items;
  if (!batch) {
    items.push_back(read_event(call, *body, "", faults));
  } else if (!body->is_array() || body->empty() || body->size() > kEventsMax) {
    faults.emplace_back("body", "must be an array of 1 to 100 events");
  } else {
    std::set<std::string> ids;
    for (size_t i = 0; i < body->size(); ++i) {
      const std::string place = "events[" + std::to_string(i) + "].";
      items.push_back(read_event(call, (*body)[i], place, faults));
      if (!items.back().id.empty() && !ids.insert(items.back().id).second)
        faults.emplace_back(place + "id", "comes twice");
    }
  }
  if (!faults.empty()) return faulty_fields(faults);
  return book_usage(call, items, true);
}

}  // namespace tallygate::api
