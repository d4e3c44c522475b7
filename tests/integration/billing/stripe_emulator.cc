#include "tests/integration/billing/stripe_emulator.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "core/env.h"

namespace tallygate::testing {
namespace {

constexpr char kListening[] = "listening on ";
constexpr char kForm[] = "application/x-www-form-urlencoded";
constexpr char kJson[] = "application/json";

}  // namespace

StripeEmulator::StripeEmulator() : folder_(make_temporary_folder()), http_(make_curl_client()) {
  const std::string output = folder_ + "/out";
  ChildProcess::Options options;
  options.output_file = output;
  process_.start({"/usr/bin/env", "python3", "tests/support/stripe_emulator.py", "--port", "0"}, options);
  for (int i = 0; i < 400 && base_.empty(); ++i) {
    system_env().sleep_ms(25);
    std::ifstream file(output);
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with(kListening)) base_ = "http://" + line.substr(sizeof kListening - 1);
    }
  }
  if (base_.empty()) throw std::runtime_error("the Stripe emulator did not start");
}

StripeEmulator::~StripeEmulator() {
  process_.signal(9);
  process_.wait();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

nlohmann::json StripeEmulator::call(const std::string& method, const std::string& path, const std::string& body,
                                    const std::string& content_type) {
  HttpRequest request;
  request.method = method;
  request.url = base_ + path;
  request.headers = {{"authorization", std::string("Bearer ") + kKey}};
  if (!content_type.empty()) request.headers.emplace_back("content-type", content_type);
  request.body = body;
  const auto response = http_->send(request);
  if (!response) throw std::runtime_error(path + ": " + response.error().message);
  if (response->status != 200) throw std::runtime_error(path + ": " + response->body);
  return nlohmann::json::parse(response->body);
}

std::string StripeEmulator::create_customer() {
  return call("POST", "/v1/customers", "name=test", kForm)["id"].get<std::string>();
}

void StripeEmulator::create_meter(const std::string& event_name) {
  call("POST", "/v1/billing/meters",
       "display_name=" + event_name + "&event_name=" + event_name +
           "&default_aggregation[formula]=sum&customer_mapping[type]=by_id"
           "&customer_mapping[event_payload_key]=stripe_customer_id&value_settings[event_payload_key]=value",
       kForm);
}

void StripeEmulator::delete_customer(const std::string& id) { call("DELETE", "/v1/customers/" + id, "", ""); }

void StripeEmulator::set_meter(const std::string& event_name, const std::string& action) {
  const auto state = call("GET", "/_emulator/state", "", "");
  for (const auto& meter : state["meters"]) {
    if (meter["event_name"] != event_name) continue;
    call("POST", "/v1/billing/meters/" + meter["id"].get<std::string>() + "/" + action, "", kForm);
  }
}

void StripeEmulator::fault(const std::string& json) { call("POST", "/_emulator/faults", json, kJson); }
void StripeEmulator::settings(const std::string& json) { call("POST", "/_emulator/settings", json, kJson); }
void StripeEmulator::clear_faults() { call("DELETE", "/_emulator/faults", "", ""); }

int64_t StripeEmulator::total(const std::string& event_name, const std::string& customer) {
  const auto totals = call("GET", "/_emulator/state", "", "")["totals"];
  if (!totals.contains(event_name) || !totals[event_name].contains(customer)) return 0;
  return totals[event_name][customer].get<int64_t>();
}

int64_t StripeEmulator::counter(const std::string& name) {
  const auto counters = call("GET", "/_emulator/state", "", "")["counters"];
  return counters.contains(name) ? counters[name].get<int64_t>() : 0;
}

void StripeEmulator::reset() { call("POST", "/_emulator/reset", "{}", kJson); }
nlohmann::json StripeEmulator::act(const std::string& json) { return call("POST", "/_emulator/act", json, kJson); }
nlohmann::json StripeEmulator::state() { return call("GET", "/_emulator/state", "", ""); }

nlohmann::json StripeEmulator::refund(const std::string& payment_intent, int64_t minor) {
  return call("POST", "/v1/refunds", "payment_intent=" + payment_intent + "&amount=" + std::to_string(minor), kForm);
}

}  // namespace tallygate::testing
