#include "operator/billing/stripe_watch.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "core/telemetry/log.h"
#include "operator/http_client/http_client.h"

namespace tallygate::billing {
namespace {

using nlohmann::json;

constexpr int kPagesMax = 50;
constexpr size_t kDoubtsMax = 100;

std::string text_of(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

HttpRequest read_of(const StripeOptions& stripe, const std::string& path) {
  HttpRequest request;
  request.url = stripe.api_base + path;
  request.headers = {{"Authorization", "Bearer " + stripe.api_key},
                     {"Stripe-Version", stripe.api_version},
                     {"Accept", "application/json"},
                     {"User-Agent", "tallygate/" TALLYGATE_VERSION}};
  request.timeout_ms = stripe.timeout_ms;
  return request;
}

// Customers' ids are of letters, digits and underscores; anything else is nobody's.
bool is_id(const std::string& id) {
  for (const char c : id) {
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-'))
      return false;
  }
  return !id.empty();
}

void warn_not_answered(const std::string& what, const std::string& why) {
  static log::Throttle throttle(60);
  log::warn(throttle,
            "Stripe could not be asked whether what it takes will be billed; the key needs 'read' on billing "
            "meters and customers",
            {{"asked", what}, {"error", why}});
}

}  // namespace

StripeWatch::StripeWatch(Env& env, HttpClient& client, StripeOptions stripe, StripeWatchOptions options)
    : env_(env), client_(client), stripe_(std::move(stripe)), options_(options) {}

std::string StripeWatch::look(const MeterEvent& event) {
  std::string fault = look_at_meter(event.event_name);
  return fault.empty() ? look_at_customer(event.customer) : fault;
}

void StripeWatch::note(Seen& seen, const std::string& what, std::string fault, int64_t kept_ms) {
  if (!fault.empty() && seen.events > 0 && doubts_.size() < kDoubtsMax) {
    doubts_.push_back(what + ": " + fault + "; Stripe took " + std::to_string(seen.events) + " events of " +
                      std::to_string(seen.units) + " units since it was last seen well, which it may not bill");
  }
  seen.events = seen.units = 0;
  seen.fault = std::move(fault);
  seen.until_ms = env_.mono_ms() + kept_ms;
}

std::string StripeWatch::look_at_meter(const std::string& name) {
  {
    const std::lock_guard lock(mutex_);
    const auto known = meters_.find(name);
    if (known != meters_.end() && env_.mono_ms() < known->second.until_ms) return known->second.fault;
    if (known == meters_.end() && env_.mono_ms() < meters_until_ms_) {
      const auto listed = meter_faults_.find(name);
      Seen& seen = meters_[name];
      seen.fault = listed == meter_faults_.end() ? "the Stripe account has no meter " + name : listed->second;
      seen.until_ms = meters_until_ms_;
      return seen.fault;
    }
  }
  std::map<std::string, std::string> faults;
  const bool answered = fetch_meters(faults);
  const std::lock_guard lock(mutex_);
  if (!answered) return "";
  meter_faults_ = std::move(faults);
  meters_until_ms_ = env_.mono_ms() + options_.meters_kept_ms;
  meters_.try_emplace(name);
  for (auto& [meter, seen] : meters_) {
    const auto listed = meter_faults_.find(meter);
    note(seen, "meter " + meter,
         listed == meter_faults_.end() ? "the Stripe account has no meter " + meter : listed->second,
         options_.meters_kept_ms);
  }
  return meters_[name].fault;
}

// By event name, what is against it; an active meter wins over an archived one of the same name.
bool StripeWatch::fetch_meters(std::map<std::string, std::string>& faults) {
  std::string after;
  for (int page = 0; page < kPagesMax; ++page) {
    const auto response = client_.send(read_of(stripe_, "/v1/billing/meters?limit=100" + after));
    const json body = response ? json::parse(response->body, nullptr, false) : json();
    if (!response || response->status != 200 || !body.is_object() || !body.contains("data") ||
        !body["data"].is_array()) {
      warn_not_answered("meters", response ? "status " + std::to_string(response->status) : response.error().message);
      return false;
    }
    std::string last;
    for (const json& meter : body["data"]) {
      if (!meter.is_object()) continue;
      last = text_of(meter, "id");
      const std::string name = text_of(meter, "event_name"), status = text_of(meter, "status");
      const std::string fault =
          status == "active" ? "" : "meter " + name + " is " + status + " at Stripe: reactivate it, or make it anew";
      const auto [known, is_new] = faults.try_emplace(name, fault);
      if (!is_new && fault.empty()) known->second.clear();
    }
    if (!body.contains("has_more") || body["has_more"] != true || last.empty()) return true;
    after = "&starting_after=" + last;
  }
  warn_not_answered("meters", "there are too many");
  return false;
}

std::string StripeWatch::look_at_customer(const std::string& id) {
  {
    const std::lock_guard lock(mutex_);
    const auto known = customers_.find(id);
    if (known != customers_.end() && env_.mono_ms() < known->second.until_ms) return known->second.fault;
  }
  const Fetched fetched = fetch_customer(id);
  if (!fetched.answered) return "";
  const std::lock_guard lock(mutex_);
  if (customers_.size() >= options_.customers_max) customers_.clear();
  Seen& seen = customers_[id];
  note(seen, "customer " + id, fetched.fault,
       fetched.fault.empty() ? options_.customers_kept_ms : options_.meters_kept_ms);
  return seen.fault;
}

StripeWatch::Fetched StripeWatch::fetch_customer(const std::string& id) {
  const std::string none =
      "Stripe has no customer " + id + ": put the right stripe customerID into the tenant's manifest";
  if (!is_id(id)) return {true, none};
  const auto response = client_.send(read_of(stripe_, "/v1/customers/" + id));
  if (response && response->status == 404) return {true, none};
  const json body = response ? json::parse(response->body, nullptr, false) : json();
  if (!response || response->status != 200 || !body.is_object()) {
    warn_not_answered("customer " + id,
                      response ? "status " + std::to_string(response->status) : response.error().message);
    return {};
  }
  const auto deleted = body.find("deleted");
  if (deleted == body.end() || *deleted != true) return {true, ""};
  return {true, "customer " + id + " was deleted at Stripe: put another stripe customerID into the tenant's manifest"};
}

void StripeWatch::taken(const MeterEvent& event) {
  const std::lock_guard lock(mutex_);
  for (auto& [all, name] : {std::pair{&meters_, event.event_name}, std::pair{&customers_, event.customer}}) {
    Seen& seen = (*all)[name];
    ++seen.events;
    seen.units += event.value;
  }
}

std::vector<std::string> StripeWatch::look_back(size_t limit) {
  std::vector<std::string> meters, customers;
  {
    const std::lock_guard lock(mutex_);
    const int64_t now_ms = env_.mono_ms();
    for (const auto& [name, seen] : meters_) {
      if (seen.events > 0 && now_ms >= seen.until_ms && meters.empty()) meters.push_back(name);
    }
    for (const auto& [id, seen] : customers_) {
      if (customers.size() == limit) break;
      if (seen.events > 0 && now_ms >= seen.until_ms) customers.push_back(id);
    }
  }
  for (const std::string& name : meters) look_at_meter(name);
  for (const std::string& id : customers) look_at_customer(id);
  const std::lock_guard lock(mutex_);
  return std::exchange(doubts_, {});
}

}  // namespace tallygate::billing
