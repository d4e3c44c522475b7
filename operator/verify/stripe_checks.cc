#include <map>
#include <nlohmann/json.hpp>

#include "core/percent.h"
#include "operator/billing/meter_event.h"
#include "operator/http_client/http_client.h"
#include "operator/verify/checks.h"

namespace tallygate::verify {
namespace {

using nlohmann::json;

constexpr int kPagesMax = 50;  // of 100 meters each

// The text at a path of an object; empty where there is none.
std::string text_at(const json& object, std::initializer_list<const char*> path) {
  const json* at = &object;
  for (const char* name : path) {
    if (!at->is_object() || !at->contains(name)) return "";
    at = &(*at)[name];
  }
  return at->is_string() ? at->get<std::string>() : "";
}

class StripeChecks {
 public:
  StripeChecks(HttpClient& http, const billing::StripeOptions& stripe, const LedgerFacts* facts, Report& report)
      : http_(http), stripe_(stripe), facts_(facts), report_(report) {}

  void run() {
    if (!read_meters()) {
      report_.skipped("stripe: everything else", "the meters could not be read");
      return;
    }
    report_.ok("stripe: key", "accepted by " + stripe_.api_base);
    if (!facts_) {
      report_.skipped("stripe: meters and customers", "they are compared with the ledger, which could not be read");
      return;
    }
    check_meters();
    check_customers();
  }

 private:
  struct Answer {
    int status = 0;
    json body;
    std::string complaint;  // Stripe's, or the transport's
  };

  Answer get(const std::string& path) {
    HttpRequest request;
    request.url = stripe_.api_base + path;
    request.headers = {{"Authorization", "Bearer " + stripe_.api_key},
                       {"Stripe-Version", stripe_.api_version},
                       {"Accept", "application/json"},
                       {"User-Agent", "tallygate/" TALLYGATE_VERSION}};
    request.timeout_ms = stripe_.timeout_ms;
    const auto response = http_.send(request);
    if (!response) return {0, {}, response.error().message};
    Answer answer{response->status, json::parse(response->body, nullptr, false), ""};
    if (answer.status != 200) {
      answer.complaint = "status " + std::to_string(answer.status) + " " + text_at(answer.body, {"error", "message"});
    }
    return answer;
  }

  // Whether the key works; fills meters_, by event name. An active meter wins over an inactive one of the same name.
  bool read_meters() {
    std::string after;
    for (int page = 0; page < kPagesMax; ++page) {
      const Answer answer = get("/v1/billing/meters?limit=100" + after);
      if (answer.status == 401) {
        report_.wrong("stripe: key", "Stripe refuses it: " + answer.complaint,
                      "set STRIPE_API_KEY to a key of this account");
        return false;
      }
      if (answer.status == 403) {
        report_.wrong("stripe: key", "it may not read billing meters: " + answer.complaint,
                      "give the restricted key 'read' on billing meters and customers");
        return false;
      }
      if (answer.status != 200 || !answer.body.is_object() || !answer.body.contains("data") ||
          !answer.body["data"].is_array()) {
        report_.wrong("stripe: reachable",
                      answer.complaint.empty() ? "it answered no list of meters" : answer.complaint,
                      "check --stripe-api-base and the way there, then verify again");
        return false;
      }
      std::string last;
      for (const json& meter : answer.body["data"]) {
        last = text_at(meter, {"id"});
        json& kept = meters_[text_at(meter, {"event_name"})];
        if (kept.is_null() || text_at(kept, {"status"}) != "active") kept = meter;
      }
      const bool more = answer.body.contains("has_more") && answer.body["has_more"] == true;
      if (!more || last.empty()) return true;
      after = "&starting_after=" + percent_encode(last);
    }
    return true;
  }

  void check_meters() {
    size_t good = 0;
    for (const std::string& name : facts_->meters) {
      const std::string check = "stripe: meter " + name;
      const auto at = meters_.find(name);
      if (at == meters_.end()) {
        report_.missing(
            check, "the account has no meter with this event name",
            "create one: event name " + name + ", formula sum, customer from stripe_customer_id, value from value");
        continue;
      }
      const json& meter = at->second;
      if (const std::string status = text_at(meter, {"status"}); status != "active") {
        report_.wrong(check, "it is " + status + ": Stripe takes its events and bills nobody; the operator holds them",
                      "reactivate it at Stripe");
      } else if (text_at(meter, {"customer_mapping", "event_payload_key"}) != "stripe_customer_id" ||
                 text_at(meter, {"value_settings", "event_payload_key"}) != "value") {
        report_.wrong(check, "it reads the customer or the value from other fields than ours",
                      "make a meter that reads stripe_customer_id and value");
      } else if (const std::string formula = text_at(meter, {"default_aggregation", "formula"}); formula != "sum") {
        report_.wrong(check, "its formula is '" + formula + "': units would not be added up",
                      "make a meter with formula sum");
      } else {
        ++good;
      }
    }
    if (good == facts_->meters.size()) {
      report_.ok("stripe: meters",
                 good == 0 ? "no meter is settled by invoice" : std::to_string(good) + " there and active");
    }
  }

  void check_customers() {
    size_t good = 0;
    for (const std::string& id : facts_->customers) {
      const std::string check = "stripe: customer " + id;
      const Answer answer = get("/v1/customers/" + percent_encode(id));
      const std::string fix = "put the right stripe customerID into the tenant's manifest";
      if (answer.status == 404) {
        report_.missing(check, "the account has no such customer", fix);
      } else if (answer.status != 200) {
        report_.wrong(check, answer.complaint, "give the key 'read' on customers, then verify again");
      } else if (answer.body.is_object() && answer.body.contains("deleted") && answer.body["deleted"] == true) {
        report_.wrong(check, "it was deleted: Stripe takes its events and bills nobody; the operator holds them", fix);
      } else {
        ++good;
      }
    }
    if (!facts_->without_customer.empty()) {
      report_.missing("stripe: customers",
                      "tenants with meters settled by invoice have none: " +
                          listed(facts_->without_customer, facts_->without_customer.size()),
                      "put stripe customerID into the tenant's manifest; their usage is held until then");
    } else if (good == facts_->customers.size()) {
      report_.ok("stripe: customers",
                 std::to_string(good) + " of " + std::to_string(facts_->customers_in_all) + " looked at, all there");
    }
  }

  HttpClient& http_;
  const billing::StripeOptions& stripe_;
  const LedgerFacts* facts_;
  Report& report_;
  std::map<std::string, json> meters_;
};

}  // namespace

void check_stripe(HttpClient& http, const billing::StripeOptions& stripe, const LedgerFacts* facts, Report& report) {
  StripeChecks(http, stripe, facts, report).run();
}

}  // namespace tallygate::verify
