// Events as Stripe renders them.
#pragma once

#include <string>

#include "operator/stripe/version.h"

namespace tallygate::testing {

inline std::string event_text(const std::string& id, const std::string& type, const std::string& object,
                              int64_t created_s = 1'800'000'000, const std::string& version = stripe::kApiVersion,
                              bool livemode = false) {
  return R"({"id":")" + id + R"(","object":"event","type":")" + type + R"(","livemode":)" + (livemode ? "true" : "false") +
         R"(,"created":)" + std::to_string(created_s) + R"(,"api_version":")" + version + R"(","pending_webhooks":1,)" +
         R"("request":{"id":null,"idempotency_key":null},"data":{"object":)" + object + "}}";
}

}  // namespace tallygate::testing
