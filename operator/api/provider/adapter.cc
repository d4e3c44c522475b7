#include "operator/api/provider/adapter.h"

#include <array>

#include "operator/api/text.h"

namespace tallygate::api {

std::span<const AdapterKind* const> adapters() {
  static constexpr std::array<const AdapterKind*, 3> kAll = {&kStandardAdapter, &kVapiAdapter, &kTwilioAdapter};
  return kAll;
}

std::optional<std::string_view> only_header(const http::Request& request, std::string_view lower_name,
                                            std::string& why) {
  if (request.header_count(lower_name) == 1 && !request.header(lower_name).empty()) return request.header(lower_name);
  why = "no " + std::string(lower_name) + " header, or several";
  return std::nullopt;
}

bool is_timely(std::string_view timestamp, int64_t now_s, std::string& why) {
  const auto sent_s = parse_integer(timestamp, now_s - kTimestampToleranceS, now_s + kTimestampToleranceS);
  if (!sent_s || timestamp.starts_with('-')) {
    why = "its timestamp is more than five minutes from now, or none";
    return false;
  }
  return true;
}

}  // namespace tallygate::api
