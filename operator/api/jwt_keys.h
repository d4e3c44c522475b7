// A key of JwtKeys; internal to the verifier.
#pragma once

#include <string>

#include "operator/api/jwt.h"

namespace tallygate::api {

struct JwtKeys::Key {
  std::string kid;
  JwtAlgorithm algorithm = JwtAlgorithm::kHs256;
  std::string secret;              // HS256
  std::shared_ptr<void> evp_pkey;  // the others
};

std::string_view to_string(JwtAlgorithm algorithm);
bool signature_fits(const JwtKeys::Key& key, std::string_view signed_part, const std::string& signature);

}  // namespace tallygate::api
