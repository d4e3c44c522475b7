// A key of JwtKeys; internal to the verifier.
#pragma once

#include <array>
#include <cstring>
#include <mutex>
#include <string>
#include <unordered_set>

#include "operator/api/jwt.h"

namespace tallygate::api {

// Tokens whose signature a key was found to fit, by the SHA-256 of token and signature: who calls comes with the same
// token again and again, and a public key's arithmetic costs 13 (RS256) to 42 µs (ES256) each time. At least the latest
// `kAtLeast` are known. Says nothing of the claims: those are looked at each time. Any thread.
class KnownSignatures {
 public:
  static constexpr size_t kAtLeast = 4096;
  using Digest = std::array<unsigned char, 32>;
  bool has(const Digest& digest) const;
  void add(const Digest& digest);

 private:
  struct Hash {
    size_t operator()(const Digest& digest) const {
      size_t out;
      std::memcpy(&out, digest.data(), sizeof out);
      return out;
    }
  };
  using Set = std::unordered_set<Digest, Hash>;
  mutable std::mutex mutex_;
  Set latest_, before_;
};

struct JwtKeys::Key {
  std::string kid;
  JwtAlgorithm algorithm = JwtAlgorithm::kHs256;
  std::string secret;              // HS256
  std::shared_ptr<void> evp_pkey;  // the others
  std::shared_ptr<KnownSignatures> known = std::make_shared<KnownSignatures>();
};

std::string_view to_string(JwtAlgorithm algorithm);
Result<void> check_signature(const JwtKeys::Key& key, std::string_view signed_part, const std::string& signature,
                             const SignatureBudget& budget);

}  // namespace tallygate::api
