#include "core/jwt/remembered.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <functional>
#include <utility>

namespace tallygate::jwt {
namespace {

// The end of a signature, which nobody chooses but who has the key.
constexpr size_t kEndBytes = 24;
constexpr size_t kWays = 2;

}  // namespace

size_t Remembered::first_place(std::string_view token) {
  const std::string_view end = token.substr(token.size() - std::min(token.size(), kEndBytes));
  return std::hash<std::string_view>()(end) % (kPlaces / kWays) * kWays;
}

const Claims* Remembered::find(std::string_view token, int64_t now_s, int64_t leeway_s) const {
  if (places_.empty()) return nullptr;
  const Place* place = &places_[first_place(token)];
  for (size_t way = 0; way < kWays; ++way, ++place) {
    if (token.empty() || place->token.size() != token.size()) continue;
    if (CRYPTO_memcmp(place->token.data(), token.data(), token.size()) != 0) continue;
    return now_s < place->claims.expires_s + leeway_s ? &place->claims : nullptr;
  }
  return nullptr;
}

void Remembered::add(std::string_view token, Claims claims) {
  if (token.size() > kTokenBytesMax) return;
  places_.resize(kPlaces);
  Place* place = &places_[first_place(token)];
  if (place[0].token != token) std::swap(place[0], place[1]);
  place[0] = Place{std::string(token), std::move(claims)};
}

size_t Remembered::size() const {
  return static_cast<size_t>(
      std::count_if(places_.begin(), places_.end(), [](const Place& place) { return !place.token.empty(); }));
}

}  // namespace tallygate::jwt
