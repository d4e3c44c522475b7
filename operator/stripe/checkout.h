// Customers, Checkout and portal sessions at Stripe. Any thread; calls block.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/result.h"
#include "operator/stripe/client.h"

namespace tallygate::stripe {

// As the ledger keeps it: asked for again, it is asked for in the same words.
struct TopUp {
  std::string id, attempt_key, tenant, customer, pay_currency, success_url, cancel_url;
  int64_t pay_minor = 0, expires_s = 0;
};

struct Session {
  std::string id, url;
  std::string status, payment_status;  // Stripe's words
};

// Errors are the client's; what Stripe refuses for good is kInvalid, with its code in front of its message.
class Checkout {
 public:
  explicit Checkout(Client& client) : client_(client) {}
  Result<Session> open(const TopUp& topup, int64_t until_ms);
  // Nobody can pay it any more; or, where it was complete already, how it stands. `key` is new each time: a failure that
  // Stripe keeps under it would be told for a day.
  Result<Session> close(const std::string& session, const std::string& key, int64_t until_ms);
  Result<std::string> make_customer(const std::string& tenant, const std::string& email, const std::string& key,
                                    int64_t until_ms);
  // The URL of Stripe's page where a customer sees its payments and keeps its cards.
  Result<std::string> portal(const std::string& customer, const std::string& return_url, const std::string& key,
                             int64_t until_ms);
  // One that was made for the tenant since then, in Stripe's list: never by its search, which lags.
  Result<std::optional<std::string>> find_customer(const std::string& tenant, int64_t since_s, int64_t until_ms);

 private:
  Client& client_;
};

// Why a customer must not be sent there: empty, or the rest of a sentence about the URL. It has to be https on one of the
// hosts, without a port, a user or a fragment.
std::string url_fault(std::string_view url, std::span<const std::string> hosts);

}  // namespace tallygate::stripe
