// Tokens that were verified, so that one that comes again costs neither parsing nor arithmetic. One thread's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/jwt/verify.h"

namespace tallygate::jwt {

class Remembered {
 public:
  static constexpr size_t kPlaces = 1024;  // two for each end of a signature; the older of them makes way

  // What the token says, if it was verified and has not expired since; null: it is to be verified. The token is
  // compared whole, in constant time. Valid until the next call of add() or clear().
  const Claims* find(std::string_view token, int64_t now_s, int64_t leeway_s) const;
  void add(std::string_view token, Claims claims);
  // Keys or rules have changed: what was signed by a key that is gone is no more.
  void clear() { places_.clear(); }
  size_t size() const;

 private:
  struct Place {
    std::string token;
    Claims claims;
  };
  static size_t first_place(std::string_view token);
  std::vector<Place> places_;
};

}  // namespace tallygate::jwt
