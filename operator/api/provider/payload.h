// A provider's payload, asked for by JSON pointer. What nobody asks for is passed over: payloads grow. Faults are
// collected and told at once; an absent required value, or one of a wrong form, reads as an empty one.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/http/message.h"
#include "operator/api/provider/event.h"

namespace tallygate::api {

inline constexpr size_t kProviderCallIdMax = 180;  // with "<provider>:" before it still a call id of the ledger

class Payload {
 public:
  // A JSON body: UTF-8, no member twice, at most 64 levels, numbers as they were written.
  explicit Payload(const http::Request& request);
  // A form's parameters, and those of the URL's query under "query".
  Payload(const std::map<std::string, std::string>& form, const std::map<std::string, std::string>& query);
  ~Payload();

  // UTF-8 without control characters, at most `max` bytes.
  std::string text(const std::string& pointer, size_t max, bool required = true);
  std::string call_id(const std::string& pointer) { return text(pointer, kProviderCallIdMax); }
  // A JSON number, or a text that holds one.
  std::optional<Decimal> decimal(const std::string& pointer, bool required);
  std::optional<std::string> currency(const std::string& pointer);
  // RFC 3339; nanoseconds.
  std::optional<int64_t> moment(const std::string& pointer);
  // Whose the event is; "" where nothing usable is there.
  std::string external_id(const std::string& pointer) const;

  void refuse(std::string pointer, std::string detail);
  // 400, 415 or 422 with every fault; nothing where all is well.
  std::optional<http::Response> refusal() const;

 private:
  struct Json;
  std::unique_ptr<Json> json_;
  std::optional<http::Response> whole_;  // the body as such cannot be read
  std::vector<std::pair<std::string, std::string>> faults_;
};

// As one value, or the payload's refusal.
inline tl::expected<Reading, http::Response> reading_of(Payload& payload, ProviderEvent event,
                                                        const std::string& tenant_pointer) {
  if (auto refused = payload.refusal()) return tl::unexpected<http::Response>(std::move(*refused));
  return Reading{std::move(event), payload.external_id(tenant_pointer)};
}

}  // namespace tallygate::api
