#include "operator/billing/meter_event.h"

#include <openssl/sha.h>

#include <array>

#include "core/percent.h"

namespace tallygate::billing {
namespace {

constexpr size_t kMeterShown = 40;
constexpr size_t kHashBytes = 12;
constexpr char kHexLower[] = "0123456789abcdef";

std::string short_hash(std::string_view tenant, std::string_view customer, std::string_view meter) {
  std::string text;
  for (const auto part : {tenant, customer, meter}) {
    text += part;
    text += '\0';
  }
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  std::string hex;
  for (size_t i = 0; i < kHashBytes; ++i) {
    hex += kHexLower[digest[i] >> 4];
    hex += kHexLower[digest[i] & 15];
  }
  return hex;
}

}  // namespace

std::string event_identifier(std::string_view tenant, std::string_view customer, std::string_view meter,
                             int64_t minute_s, int64_t revision, int64_t recovered) {
  return "tg-" + short_hash(tenant, customer, meter) + "-" + std::string(meter.substr(0, kMeterShown)) + "-" +
         std::to_string(minute_s / 60) + "-" + std::to_string(revision) +
         (recovered == 0 ? "" : "-g" + std::to_string(recovered));
}

std::string form_body(const MeterEvent& event) {
  std::string body = "event_name=" + percent_encode(event.event_name);
  body += "&identifier=" + percent_encode(event.identifier);
  body += "&payload%5Bstripe_customer_id%5D=" + percent_encode(event.customer);
  body += "&payload%5Bvalue%5D=" + std::to_string(event.value);
  body += "&timestamp=" + std::to_string(event.timestamp_s);
  return body;
}

std::string idempotency_key(const MeterEvent& event, int64_t attempt) {
  return event.identifier + "-a" + std::to_string(attempt);
}

}  // namespace tallygate::billing
