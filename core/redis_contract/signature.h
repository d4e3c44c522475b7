// How what the operator publishes is signed (Ed25519, RFC 8032), and how readers hold it to its name, its content and its
// edition. A signature is a key of its own beside what it is of (keys.h: signature_key), so that readers that know nothing
// of it read as before; the head of the change index has its own as a field.
//
//   1 <id of the key> <generation of the ledger> <version> <signature, base64url>
//
// It is over `tallygate publication 1`, the name by which the change index calls the document ("T<tenant>", "P<policy>",
// "I<kind>:<value>"; kHeadName: the index's head), the edition, and the document, each with its length before it: no other
// division of the same bytes says the same.
//
// Threading: values; any number of threads may read one.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

struct evp_pkey_st;

namespace tallygate::redis_contract {

// Of one name, later editions are greater, whatever became of Redis and of the ledger since.
struct Edition {
  int64_t ledger = 0;   // how often the ledger was recovered from a backup
  int64_t version = 0;  // of the publication
  auto operator<=>(const Edition&) const = default;
};

// The head of the change index has no document of its own: this stands for it.
inline constexpr const char* kHeadName = "M";
std::string head_document(std::string_view generation, int64_t version);

class PublicKey {
 public:
  // 32 bytes.
  static Result<PublicKey> from_raw(std::string_view raw);
  // The first 16 hexadecimal digits of its SHA-256.
  const std::string& id() const { return id_; }
  const std::string& raw() const { return raw_; }
  // "-----BEGIN PUBLIC KEY-----…"
  std::string pem() const;
  bool operator==(const PublicKey& other) const { return raw_ == other.raw_; }

 private:
  friend class TrustedKeys;
  friend class Signer;
  std::string raw_, id_;
  std::shared_ptr<evp_pkey_st> key_;
};

class Signer {
 public:
  // `seed`: 32 bytes, the private key of RFC 8032.
  static Result<Signer> from_seed(std::string_view seed);
  // The first block `PRIVATE KEY` of a PEM text. The message quotes nothing of it.
  static Result<Signer> from_pem(const std::string& pem);
  const PublicKey& public_key() const { return public_; }
  std::string sign(std::string_view name, std::string_view document, const Edition& edition) const;
  // Whether `signature` is what this key makes of them, under the edition that it says.
  bool made(std::string_view signature, std::string_view name, std::string_view document) const;

 private:
  PublicKey public_;
  std::shared_ptr<evp_pkey_st> key_;
};

// Why a document is not believed.
enum class Distrust : uint8_t {
  kUnsigned,    // there is no signature, or none of this form
  kUnknownKey,  // by a key that is not trusted
  kForged,      // not of this name, edition and document
  kReplayed,    // of an earlier edition than is known: for readers, who know that
  kCount,
};
const char* to_string(Distrust why);

class TrustedKeys {
 public:
  static constexpr size_t kMax = 8;
  // Every block `PUBLIC KEY` of a PEM text, one to kMax of them. kInvalid where one is no Ed25519 key.
  static Result<TrustedKeys> from_pem(const std::string& pem);
  static TrustedKeys of(std::vector<PublicKey> keys);
  tl::expected<Edition, Distrust> verify(std::string_view name, std::string_view document,
                                         std::string_view signature) const;
  // Their ids, for people.
  std::string ids() const;
  bool operator==(const TrustedKeys& other) const { return keys_ == other.keys_; }

 private:
  std::map<std::string, PublicKey, std::less<>> keys_;  // by id
};

// All blocks `PUBLIC KEY` of a text, none too; of other blocks nothing is said.
Result<std::vector<PublicKey>> public_keys_in(const std::string& pem);

}  // namespace tallygate::redis_contract
