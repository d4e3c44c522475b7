#include "core/redis_contract/bucket_id.h"

#include <charconv>

#include "core/ids.h"

namespace tallygate::redis_contract {
namespace {

// Until the end of the year 9999: sums of two are exact anywhere, in Lua too.
constexpr int64_t kMaxSeconds = 253'402'300'799;

// One spelling only, for one account of the ledger must not have two buckets.
bool parse_seconds(std::string_view text, int64_t* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && *out >= 0 && *out <= kMaxSeconds &&
         (text[0] != '0' || text.size() == 1) && text[0] != '-';
}

}  // namespace

std::string BucketId::str() const {
  if (wallet) return name + "$";
  return name + "@" + std::to_string(start_s) + "+" + std::to_string(length_s);
}

Result<BucketId> BucketId::parse(std::string_view text) {
  const auto bad = [&] {
    return fail(Errc::kInvalid, "\"" + std::string(text.substr(0, 120)) + "\" is not a bucket id");
  };
  BucketId id;
  if (text.ends_with('$')) {
    id.name = text.substr(0, text.size() - 1);
    id.wallet = true;
    if (!is_meter_name(id.name)) return bad();
    return id;
  }
  const size_t at = text.find('@');
  const size_t plus = text.find('+', at == std::string_view::npos ? 0 : at);
  if (at == std::string_view::npos || plus == std::string_view::npos) return bad();
  id.name = text.substr(0, at);
  if (!is_dns_label(id.name) || !parse_seconds(text.substr(at + 1, plus - at - 1), &id.start_s) ||
      !parse_seconds(text.substr(plus + 1), &id.length_s) || id.length_s == 0) {
    return bad();
  }
  return id;
}

}  // namespace tallygate::redis_contract
