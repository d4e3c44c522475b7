#include "operator/controller/status.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/time_text.h"
#include "operator/manifest/formats.h"
#include "operator/manifest/resources.h"

namespace tallygate::controller {
namespace {

using Json = nlohmann::json;

constexpr const char* kTruths[] = {"Unknown", "False", "True"};
// In the order in which they are shown. Others' conditions are none of ours.
constexpr std::string_view kTypes[] = {kAccepted, kProgrammed, kReady, kBalanceHealthy, kBillingSynced, kPaymentCurrent};
constexpr const char* kStates[] = {"ok", "warned", "soft-over", "grace", "hard"};

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}
int64_t integer_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_integer() ? found->get<int64_t>() : 0;
}
int64_t time_of(const Json& object, const char* key) { return manifest::parse_rfc3339(text_of(object, key)).value_or(0); }
// The items of a list of objects.
std::vector<Json> list_of(const Json& object, const char* key) {
  std::vector<Json> items;
  const auto found = object.find(key);
  if (found == object.end() || !found->is_array()) return items;
  std::copy_if(found->begin(), found->end(), std::back_inserter(items), [](const Json& item) { return item.is_object(); });
  return items;
}

std::optional<LimitState> state_of(const std::string& text) {
  const auto found = std::find(std::begin(kStates), std::end(kStates), text);
  if (found == std::end(kStates)) return std::nullopt;
  return static_cast<LimitState>(found - std::begin(kStates));
}

Json to_json(const Condition& c) {
  return {{"type", c.type},
          {"status", kTruths[static_cast<size_t>(c.status)]},
          {"reason", c.reason},
          {"message", c.message},
          {"observedGeneration", c.observed_generation},
          {"lastTransitionTime", rfc3339(c.since_s)}};
}

Condition read_condition(const Json& json) {
  Condition c{text_of(json, "type"), Truth::kUnknown, text_of(json, "reason"), text_of(json, "message"),
              integer_of(json, "observedGeneration"), time_of(json, "lastTransitionTime")};
  const std::string status = text_of(json, "status");
  if (status == "True") c.status = Truth::kTrue;
  if (status == "False") c.status = Truth::kFalse;
  return c;
}

Json to_json(const LimitUsage& u) {
  return {{"limit", u.limit}, {"meter", u.meter}, {"window", u.window}, {"amount", u.amount},
          {"used", u.used},   {"state", to_string(u.state)}, {"resetsAt", rfc3339(u.resets_at_s)}};
}

LimitUsage read_usage(const Json& json) {
  return {text_of(json, "limit"),      text_of(json, "meter"),     text_of(json, "window"),
          integer_of(json, "amount"),  integer_of(json, "used"),   state_of(text_of(json, "state")).value_or(LimitState::kOk),
          time_of(json, "resetsAt")};
}

}  // namespace

const char* to_string(LimitState state) { return kStates[static_cast<size_t>(state)]; }

int64_t LimitUsage::percent() const {
  if (amount <= 0) return 100;
  return static_cast<int64_t>(static_cast<__int128>(used) * 100 / amount);
}

const Condition* Status::condition(std::string_view type) const {
  const auto found = std::find_if(conditions.begin(), conditions.end(), [&](const auto& c) { return c.type == type; });
  return found == conditions.end() ? nullptr : &*found;
}

int64_t Status::used_percent() const {
  int64_t percent = 0;
  for (const auto& limit : usage) percent = std::max(percent, limit.percent());
  return percent;
}

Difference compare(const Status& now, const Status& written) {
  if (now == written) return Difference::kNone;
  // Figures are all that may differ without being news.
  Status same = written;
  same.balance = now.balance;
  bool moved = now.balance != written.balance;
  if (same.usage.size() == now.usage.size()) {
    for (size_t i = 0; i < now.usage.size(); ++i) {
      moved = moved || same.usage[i].percent() != now.usage[i].percent();
      same.usage[i].used = now.usage[i].used;
    }
  }
  if (!(same == now)) return Difference::kNews;
  return moved ? Difference::kFigures : Difference::kNone;
}

void set_times(Status& now, const Status& before, int64_t now_s) {
  for (Condition& c : now.conditions) {
    const Condition* was = before.condition(c.type);
    c.since_s = was != nullptr && was->status == c.status && was->since_s > 0 ? was->since_s : now_s;
  }
}

std::string to_json(const Status& s, std::string_view kind, std::string_view name_space, std::string_view name,
                    std::string_view uid) {
  Json status = {{"observedGeneration", s.observed_generation}, {"conditions", Json::array()}};
  for (const auto& c : s.conditions) status["conditions"].push_back(to_json(c));
  if (s.state) {
    status["state"] = to_string(*s.state);
    status["usedPercent"] = s.used_percent();
    status["usage"] = Json::array();
    for (const auto& limit : s.usage) status["usage"].push_back(to_json(limit));
  }
  if (!s.balance.empty()) status["balance"] = s.balance;
  if (s.period_end_s > 0) {
    status["period"] = {{"start", rfc3339(s.period_start_s)}, {"end", rfc3339(s.period_end_s)}};
  }
  if (!s.stripe_customer.empty()) status["stripe"] = {{"customerID", s.stripe_customer}};
  if (s.tenants) status["tenants"] = *s.tenants;
  if (!s.conflicts.empty()) status["conflicts"] = s.conflicts;
  Json object = {{"apiVersion", manifest::kApiVersion}, {"kind", kind}, {"status", std::move(status)}};
  object["metadata"] = {{"name", name}, {"uid", uid}};
  if (!name_space.empty()) object["metadata"]["namespace"] = name_space;
  return object.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Status read_status(std::string_view object_json) {
  Status s;
  const Json object = Json::parse(object_json, nullptr, false);
  if (!object.is_object() || !object.contains("status") || !object["status"].is_object()) return s;
  const Json& status = object["status"];
  s.observed_generation = integer_of(status, "observedGeneration");
  const auto conditions = list_of(status, "conditions");
  for (const auto type : kTypes) {
    for (const auto& item : conditions) {
      if (text_of(item, "type") == type) s.conditions.push_back(read_condition(item));
    }
  }
  s.state = state_of(text_of(status, "state"));
  for (const auto& item : list_of(status, "usage")) s.usage.push_back(read_usage(item));
  std::sort(s.usage.begin(), s.usage.end(), [](const auto& a, const auto& b) { return a.limit < b.limit; });
  s.balance = text_of(status, "balance");
  if (status.contains("period") && status["period"].is_object()) {
    s.period_start_s = time_of(status["period"], "start");
    s.period_end_s = time_of(status["period"], "end");
  }
  if (status.contains("stripe") && status["stripe"].is_object()) s.stripe_customer = text_of(status["stripe"], "customerID");
  if (status.contains("tenants")) s.tenants = integer_of(status, "tenants");
  if (status.contains("conflicts") && status["conflicts"].is_array()) {
    for (const auto& item : status["conflicts"]) {
      if (item.is_string()) s.conflicts.push_back(item.get<std::string>());
    }
  }
  return s;
}

}  // namespace tallygate::controller
