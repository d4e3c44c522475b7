#include "operator/api/seal.h"

#include <charconv>

#include "core/sha256.h"
#include "operator/api/call.h"
#include "operator/api/text.h"

namespace tallygate::api {
namespace {

constexpr int kRounds = 4;
constexpr uint32_t kHalf = 0x7FFF'FFFF;  // 31 bits
constexpr int64_t kNumbersEnd = int64_t{1} << 48;

int64_t joined(uint32_t left, uint32_t right) { return (static_cast<int64_t>(left) << 31) | right; }

}  // namespace

uint32_t Seal::mixed(std::string_view tenant, int round, uint32_t half) const {
  const std::string digest =
      sha256_hex(key_ + std::to_string(round) + ' ' + std::to_string(half) + ' ' + std::string(tenant));
  uint32_t value = 0;
  std::from_chars(digest.data(), digest.data() + 8, value, 16);
  return value & kHalf;
}

int64_t Seal::close(std::string_view tenant, int64_t number) const {
  auto left = static_cast<uint32_t>(number >> 31) & kHalf, right = static_cast<uint32_t>(number) & kHalf;
  for (int round = 0; round < kRounds; ++round) {
    const uint32_t next = left ^ mixed(tenant, round, right);
    left = right;
    right = next;
  }
  return joined(left, right);
}

std::optional<int64_t> Seal::open(std::string_view tenant, int64_t shown) const {
  if (shown < 0 || shown >> 62 != 0) return std::nullopt;
  auto left = static_cast<uint32_t>(shown >> 31) & kHalf, right = static_cast<uint32_t>(shown) & kHalf;
  for (int round = kRounds - 1; round >= 0; --round) {
    const uint32_t before = right ^ mixed(tenant, round, left);
    right = left;
    left = before;
  }
  const int64_t number = joined(left, right);
  return number < kNumbersEnd ? std::optional(number) : std::nullopt;
}

std::string shown_number(const Call& call, int64_t number) {
  const auto seal = call.services.pool.seal();
  return number == 0 || seal == nullptr ? "" : std::to_string(seal->close(call.tenant, number));
}

std::string list_cursor(const Call& call, char kind, int64_t place) {
  const auto seal = call.services.pool.seal();
  return seal == nullptr ? "" : make_cursor(kind, seal->close(call.tenant, place));
}

std::optional<int64_t> read_list_cursor(const Call& call, Fields& fields, char kind) {
  const auto shown = fields.query_cursor(kind);
  if (!shown) return std::nullopt;
  // A first request of this process may come with one, before any connection.
  if (call.services.pool.seal() == nullptr) call.services.pool.check();
  const auto seal = call.services.pool.seal();
  auto place = seal == nullptr ? std::nullopt : seal->open(call.tenant, *shown);
  if (!place || *place == 0) fields.refuse("cursor", "must be a nextCursor of this list");
  return place;
}

}  // namespace tallygate::api
