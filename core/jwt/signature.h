// Signatures and keys as OpenSSL has them; internal to this folder.
#pragma once

#include <nlohmann/json.hpp>

#include "core/jwt/keys.h"
#include "core/jwt/verify.h"

namespace tallygate::jwt {

// The public key of a JWK of this type, checked to be sound.
Result<std::shared_ptr<void>> public_key(KeyType type, const nlohmann::json& jwk);
Result<std::shared_ptr<void>> public_key_of_pem(std::string_view pem, KeyType* type);
// The bytes of a member that is base64url.
Result<std::string> member_bytes(const nlohmann::json& jwk, const char* name);

Result<void> check_signature(const Keys::Key& key, Algorithm algorithm, std::string_view signed_part,
                             const std::string& signature, const SignatureBudget& budget);

}  // namespace tallygate::jwt
