#include "core/redis_contract/signature.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "core/base64.h"
#include "core/sha256.h"

namespace tallygate::redis_contract {
namespace {

constexpr size_t kKeyBytes = 32, kSignatureBytes = 64, kIdDigits = 16;
constexpr std::string_view kForm = "1";
constexpr std::string_view kPurpose = "tallygate publication 1";
constexpr std::string_view kPublicBegin = "-----BEGIN PUBLIC KEY-----";
constexpr std::string_view kPublicEnd = "-----END PUBLIC KEY-----";

std::shared_ptr<EVP_PKEY> own(EVP_PKEY* key) { return {key, EVP_PKEY_free}; }

using Bio = std::unique_ptr<BIO, decltype(&BIO_free_all)>;
Bio reader_of(std::string_view text) {
  return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free_all};
}

// A key that is encrypted is refused, not asked for at a terminal.
int no_password(char*, int, int, void*) { return 0; }

bool is_ed25519(const EVP_PKEY* key) { return key != nullptr && EVP_PKEY_base_id(key) == EVP_PKEY_ED25519; }

const unsigned char* bytes(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

std::string raw_public(const EVP_PKEY* key) {
  std::string raw(kKeyBytes, '\0');
  size_t size = raw.size();
  TG_ASSERT(EVP_PKEY_get_raw_public_key(key, reinterpret_cast<unsigned char*>(raw.data()), &size) == 1);
  return raw;
}

std::string message_of(std::string_view name, std::string_view document, const Edition& edition) {
  std::string message;
  message.reserve(document.size() + name.size() + 80);
  const auto add = [&](std::string_view part) {
    message += std::to_string(part.size());
    message += ':';
    message += part;
  };
  add(kPurpose);
  add(name);
  add(std::to_string(edition.ledger));
  add(std::to_string(edition.version));
  add(document);
  return message;
}

std::string signed_bytes(EVP_PKEY* key, std::string_view message) {
  std::string signature(kSignatureBytes, '\0');
  size_t size = signature.size();
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  const bool done = context && EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key) == 1 &&
                    EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                                   bytes(message), message.size()) == 1;
  TG_ASSERT(done && size == kSignatureBytes);  // nothing of the message can make it fail
  return signature;
}

struct Parts {
  std::string_view key;
  Edition edition;
  std::string signature;
};

std::string_view next_word(std::string_view* rest) {
  const size_t end = std::min(rest->find(' '), rest->size());
  const std::string_view word = rest->substr(0, end);
  rest->remove_prefix(std::min(end + 1, rest->size()));
  return word;
}

// As it was written, and no other way of writing the same number.
bool read_number(std::string_view word, int64_t* out) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), *out);
  return error == std::errc() && end == word.data() + word.size() && *out >= 0 && std::to_string(*out) == word;
}

std::optional<Parts> parse(std::string_view text) {
  Parts parts;
  if (next_word(&text) != kForm) return std::nullopt;
  parts.key = next_word(&text);
  if (!read_number(next_word(&text), &parts.edition.ledger)) return std::nullopt;
  if (!read_number(next_word(&text), &parts.edition.version)) return std::nullopt;
  auto signature = base64url_decode(text);
  if (!signature || signature->size() != kSignatureBytes) return std::nullopt;
  parts.signature = std::move(*signature);
  return parts;
}

}  // namespace

std::string head_document(std::string_view generation, int64_t version) {
  return std::string(generation) + ' ' + std::to_string(version);
}

Result<PublicKey> PublicKey::from_raw(std::string_view raw) {
  if (raw.size() != kKeyBytes) return fail(Errc::kInvalid, "a public key of Ed25519 has 32 bytes");
  PublicKey key;
  key.key_ = own(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, bytes(raw), raw.size()));
  ERR_clear_error();
  if (!key.key_) return fail(Errc::kInvalid, "these 32 bytes are no public key of Ed25519");
  key.raw_ = raw;
  key.id_ = sha256_hex(raw).substr(0, kIdDigits);
  return key;
}

std::string PublicKey::pem() const {
  const Bio out(BIO_new(BIO_s_mem()), BIO_free_all);
  TG_ASSERT(out && PEM_write_bio_PUBKEY(out.get(), key_.get()) == 1);
  char* data = nullptr;
  const long size = BIO_get_mem_data(out.get(), &data);
  return {data, static_cast<size_t>(size)};
}

Result<Signer> Signer::from_seed(std::string_view seed) {
  if (seed.size() != kKeyBytes) return fail(Errc::kInvalid, "a private key of Ed25519 has 32 bytes");
  Signer signer;
  signer.key_ = own(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, bytes(seed), seed.size()));
  TG_ASSERT(signer.key_ != nullptr);  // any 32 bytes are one
  signer.public_ = PublicKey::from_raw(raw_public(signer.key_.get())).value();
  return signer;
}

Result<Signer> Signer::from_pem(const std::string& pem) {
  const Bio in = reader_of(pem);
  Signer signer;
  signer.key_ = own(in ? PEM_read_bio_PrivateKey(in.get(), nullptr, no_password, nullptr) : nullptr);
  ERR_clear_error();
  if (!is_ed25519(signer.key_.get())) {
    return fail(Errc::kInvalid,
                "there is no unencrypted private key of Ed25519 in it: make one with `openssl genpkey -algorithm ed25519`");
  }
  signer.public_ = PublicKey::from_raw(raw_public(signer.key_.get())).value();
  return signer;
}

std::string Signer::sign(std::string_view name, std::string_view document, const Edition& edition) const {
  std::string text(kForm);
  text += ' ' + public_.id() + ' ' + std::to_string(edition.ledger) + ' ' + std::to_string(edition.version) + ' ';
  return text + base64url_encode(signed_bytes(key_.get(), message_of(name, document, edition)));
}

// Ed25519 makes one signature of a message, and making it is quicker than verifying it.
bool Signer::made(std::string_view signature, std::string_view name, std::string_view document) const {
  const auto parts = parse(signature);
  return parts && parts->key == public_.id() && sign(name, document, parts->edition) == signature;
}

const char* to_string(Distrust why) {
  switch (why) {
    case Distrust::kUnsigned: return "unsigned";
    case Distrust::kUnknownKey: return "unknown_key";
    case Distrust::kForged: return "forged";
    case Distrust::kReplayed: return "replayed";
    case Distrust::kCount: break;
  }
  return "?";
}

Result<std::vector<PublicKey>> public_keys_in(const std::string& pem) {
  std::vector<PublicKey> keys;
  size_t at = 0;
  while ((at = pem.find(kPublicBegin, at)) != std::string::npos) {
    const size_t end = pem.find(kPublicEnd, at);
    const size_t size = end == std::string::npos ? end : end + kPublicEnd.size() - at;
    const Bio in = reader_of(std::string_view(pem).substr(at, size));
    const auto key = own(in ? PEM_read_bio_PUBKEY(in.get(), nullptr, no_password, nullptr) : nullptr);
    ERR_clear_error();
    if (!is_ed25519(key.get())) {
      return fail(Errc::kInvalid, "public key " + std::to_string(keys.size() + 1) + " in it is none of Ed25519");
    }
    keys.push_back(PublicKey::from_raw(raw_public(key.get())).value());
    at += kPublicBegin.size();
  }
  return keys;
}

Result<TrustedKeys> TrustedKeys::from_pem(const std::string& pem) {
  auto keys = public_keys_in(pem);
  if (!keys) return tl::unexpected(keys.error());
  if (keys->empty()) return fail(Errc::kInvalid, "there is no PEM block PUBLIC KEY in it");
  if (keys->size() > kMax) return fail(Errc::kInvalid, "there are more than " + std::to_string(kMax) + " keys in it");
  return of(std::move(*keys));
}

TrustedKeys TrustedKeys::of(std::vector<PublicKey> keys) {
  TrustedKeys trusted;
  for (PublicKey& key : keys) {
    const std::string id = key.id();
    trusted.keys_.emplace(id, std::move(key));
  }
  return trusted;
}

tl::expected<Edition, Distrust> TrustedKeys::verify(std::string_view name, std::string_view document,
                                                    std::string_view signature) const {
  const auto parts = parse(signature);
  if (!parts) return tl::unexpected(Distrust::kUnsigned);
  const auto found = keys_.find(parts->key);
  if (found == keys_.end()) return tl::unexpected(Distrust::kUnknownKey);
  const std::string message = message_of(name, document, parts->edition);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  const bool good =
      context && EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, found->second.key_.get()) == 1 &&
      EVP_DigestVerify(context.get(), bytes(parts->signature), parts->signature.size(), bytes(message),
                       message.size()) == 1;
  ERR_clear_error();
  if (!good) return tl::unexpected(Distrust::kForged);
  return parts->edition;
}

std::string TrustedKeys::ids() const {
  std::string all;
  for (const auto& [id, key] : keys_) all += (all.empty() ? "" : ", ") + id;
  return all;
}

}  // namespace tallygate::redis_contract
