#include "sidecar/admission/identify.h"

#include <openssl/evp.h>

namespace tallygate::sidecar {
namespace {

constexpr size_t kMaxCredential = 1024;

bool printable(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x21 || static_cast<unsigned char>(c) > 0x7e) return false;
  }
  return true;
}

}  // namespace

Identifier::Identifier(const std::vector<tenant::IdentitySource>& sources, const std::string& tenant_header,
                       bool forward_overrides)
    : tenant_prefix_(tenant_header.empty() ? "" : tenant_header + ": ") {
  guarded_.add(tenant_header.empty() ? tenant::kTenantHeader : tenant_header);
  for (const auto& source : sources) {
    const bool always =
        source.forward == tenant::Forward::kAlways && source.type != tenant::IdentityType::kTrustedHeader;
    Source s{source.type, source.header, {}, source.forward == tenant::Forward::kVerified ? source.header + ": " : ""};
    guarded_.add(source.header, always);
    if (source.type == tenant::IdentityType::kTrustedHeader) trusted_.add(source.header);
    for (const auto& text : source.from_cidrs) {
      if (auto block = Network::parse(text)) s.from.push_back(*block);
    }
    if (!wanted_.empty()) wanted_ += " or ";
    wanted_ += source.type == tenant::IdentityType::kJwt ? "a bearer token" : "the " + source.header + " header";
    if (sources_.empty() && source.type == tenant::IdentityType::kJwt) challenge_ = "Bearer";
    sources_.push_back(std::move(s));
  }
  if (forward_overrides) return;
  for (const char* name : tenant::kOverrideHeaders) guarded_.add(name);
}

Identified Identifier::identify(const proxy::RequestView& request) const {
  const auto refuse = [](Reason reason, const char* detail) { return Identified{reason, false, {}, {}, detail}; };
  for (const Source& source : sources_) {
    const auto found = request.find(source.header);
    if (found.count == 0) continue;
    if (found.count > 1) return refuse(Reason::kInvalidCredential, "the credential's header is given more than once");
    const auto invalid = [&](const char* detail) {
      if (source.type == tenant::IdentityType::kTrustedHeader) return refuse(Reason::kInvalidCredential, detail);
      return Identified{Reason::kInvalidCredential, false, found.value, source.prefix, detail};
    };
    if (source.type == tenant::IdentityType::kJwt) return invalid("this version cannot verify bearer tokens");
    if (found.value.empty()) return invalid("the credential is empty");
    if (found.value.size() > kMaxCredential || !printable(found.value)) {
      return invalid("the credential is too long or has characters that none can have");
    }
    switch (source.type) {
      case tenant::IdentityType::kApiKey:
        return {Reason::kAdmitted, true, found.value, source.prefix, ""};
      case tenant::IdentityType::kTrustedHeader:
        for (const Network& block : source.from) {
          if (block.contains(request.peer)) return {Reason::kAdmitted, false, found.value, source.prefix, ""};
        }
        return refuse(Reason::kUntrustedSource, "this header is accepted from trusted addresses only");
      case tenant::IdentityType::kJwt:
        break;
    }
  }
  return refuse(Reason::kUnauthenticated, "");
}

std::string sha256_hex(std::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha256(), nullptr);
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(size * 2);
  for (unsigned i = 0; i < size; ++i) {
    hex += kDigits[digest[i] >> 4];
    hex += kDigits[digest[i] & 15];
  }
  return hex;
}

}  // namespace tallygate::sidecar
