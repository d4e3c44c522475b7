// What Stripe does not say when it takes a meter event: 200 is answered for a meter that is archived and for a customer
// who was deleted, or never was, and the units are on no invoice. So both are looked at before an event is sent, and
// again after some were: what is known is kept for a while. Who cannot be asked (an outage, a key that may not read)
// holds nothing up.
// https://docs.stripe.com/api/billing/meter/list, https://docs.stripe.com/api/customers/retrieve
//
// Any thread; a look blocks its caller for one call, or for the pages of the list of meters.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "core/env.h"
#include "operator/billing/meter_event.h"
#include "operator/billing/stripe_api.h"

namespace tallygate::billing {

struct StripeWatchOptions {
  int64_t meters_kept_ms = 60'000;
  int64_t customers_kept_ms = 900'000;  // found well; else as meters, for somebody is mending it
  size_t customers_max = 100'000;       // beyond it all are forgotten, and looked at again
};

class StripeWatch final : public EventWatch {
 public:
  // `client` outlives it.
  StripeWatch(Env& env, HttpClient& client, StripeOptions stripe, StripeWatchOptions options = {});
  std::string look(const MeterEvent& event) override;
  void taken(const MeterEvent& event) override;
  std::vector<std::string> look_back(size_t limit) override;

 private:
  struct Seen {
    std::string fault;  // empty: well
    int64_t until_ms = 0;
    int64_t events = 0, units = 0;  // taken since it was last seen well
  };
  struct Fetched {
    bool answered = false;  // else nothing is known
    std::string fault;
  };
  Fetched fetch_customer(const std::string& id);
  bool fetch_meters(std::map<std::string, std::string>& faults);
  std::string look_at_meter(const std::string& name);
  std::string look_at_customer(const std::string& id);
  // Takes down what was seen, and what was taken before by one that is not well. Under mutex_.
  void note(Seen& seen, const std::string& what, std::string fault, int64_t kept_ms);

  Env& env_;
  HttpClient& client_;
  const StripeOptions stripe_;
  const StripeWatchOptions options_;
  std::mutex mutex_;  // guards what follows; held for no call
  std::map<std::string, Seen> meters_, customers_;
  std::map<std::string, std::string> meter_faults_;  // of those that the account has
  int64_t meters_until_ms_ = 0;
  std::vector<std::string> doubts_;
};

}  // namespace tallygate::billing
