// Keys that tokens are signed with, and which algorithms each may be used for. Immutable; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "core/result.h"

namespace tallygate::jwt {

// RFC 7518, 3.1, and RFC 8037 with Ed25519.
enum class Algorithm : uint8_t {
  kHs256,
  kHs384,
  kHs512,
  kRs256,
  kRs384,
  kRs512,
  kPs256,
  kPs384,
  kPs512,
  kEs256,
  kEs384,
  kEs512,
  kEdDsa,
};
std::string_view to_string(Algorithm algorithm);
std::optional<Algorithm> algorithm_named(std::string_view name);

enum class KeyType : uint8_t { kSecret, kRsa, kP256, kP384, kP521, kEd25519 };
KeyType key_type(Algorithm algorithm);

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

struct KeyRules {
  // What keys may be used for. A key that names none of them itself is for all that its type allows.
  std::vector<Algorithm> algorithms{Algorithm::kHs256, Algorithm::kRs256, Algorithm::kEs256};
  // Keys of other types and algorithms, and those that are weak, are left out: of a set that somebody else keeps, for
  // others too. Else each is a fault.
  bool skip_unfit = false;
};

class Keys {
 public:
  // A JWK set (RFC 7517): "oct" of at least 32 bytes, "RSA" of at least 2048 bits, "EC" on P-256, P-384, P-521, "OKP"
  // with Ed25519. Private keys, algorithms that do not belong to their key, and two keys of one kid are refused. Keys
  // for encryption are skipped. The error tells all faults.
  static Result<Keys> parse_jwks(std::string_view json, const KeyRules& rules = {});
  // One key: a secret for HS256, or a public key in PEM for RS256 or ES256, by its type.
  static Result<Keys> from_secret(std::string_view secret, std::string kid = "");
  static Result<Keys> from_pem(std::string_view pem, std::string kid = "");

  size_t size() const { return keys_.size(); }

  struct Key {
    std::string kid;
    KeyType type = KeyType::kSecret;
    std::vector<Algorithm> algorithms;
    std::string secret;
    std::shared_ptr<void> evp_pkey;  // of all types but kSecret
    std::shared_ptr<KnownSignatures> known = std::make_shared<KnownSignatures>();
    bool allows(Algorithm algorithm) const;
  };
  // The key that the header names; without a kid the only one. Null: none.
  const Key* find(const std::optional<std::string>& kid) const;

 private:
  bool has(const std::string& kid) const;
  std::vector<std::shared_ptr<const Key>> keys_;
};

}  // namespace tallygate::jwt
