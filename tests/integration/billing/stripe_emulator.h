// The Stripe emulator as a process, and what tests ask of it.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "operator/http_client/http_client.h"
#include "tests/integration/support/child_process.h"

namespace tallygate::testing {

class StripeEmulator {
 public:
  StripeEmulator();
  ~StripeEmulator();
  const std::string& base() const { return base_; }
  static constexpr char kKey[] = "sk_test_emulator";

  std::string create_customer();  // its id
  void create_meter(const std::string& event_name);
  void deactivate_meter(const std::string& event_name) { set_meter(event_name, "deactivate"); }
  void reactivate_meter(const std::string& event_name) { set_meter(event_name, "reactivate"); }
  void delete_customer(const std::string& id);
  // As POST /_emulator/faults takes it.
  void fault(const std::string& json);
  void settings(const std::string& json);
  void clear_faults();
  int64_t total(const std::string& event_name, const std::string& customer);
  int64_t counter(const std::string& name);
  // As at its start: no objects, no faults, the settings' defaults.
  void reset();
  // What customers and banks do: POST /_emulator/act. The object that it was done to.
  nlohmann::json act(const std::string& json);
  nlohmann::json state();
  nlohmann::json refund(const std::string& payment_intent, int64_t minor);

 private:
  nlohmann::json call(const std::string& method, const std::string& path, const std::string& body,
                      const std::string& content_type);
  void set_meter(const std::string& event_name, const std::string& action);
  std::string folder_, base_;
  std::unique_ptr<HttpClient> http_;
  ChildProcess process_;
};

}  // namespace tallygate::testing
