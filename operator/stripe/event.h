// An event of Stripe as its envelope says, whatever its type, and how it comes into the ledger's inbox.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"
#include "operator/ledger/session.h"

namespace tallygate::stripe {

struct Event {
  std::string id, type;
  std::string api_version;  // that its object is rendered in; "": it does not say
  std::string object_id;    // of data.object; "": it has none
  bool livemode = false;
  int64_t created_s = 0;
};

// kInvalid: it is no event, and the message says what is wrong.
Result<Event> read_event(std::string_view json);

// One row with one column: whether it is new. To be repeated as often as one likes.
inline constexpr char kAcceptEvent[] = "select accept_stripe_event($1, $2, $3, $4, $5, $6, $7, $8, $9)";
ledger::Params accept_params(const Event& event, std::string_view json, const char* found_by, int64_t now_ns);

}  // namespace tallygate::stripe
