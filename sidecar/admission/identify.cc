#include "sidecar/admission/identify.h"

#include <arpa/inet.h>
#include <openssl/evp.h>

#include <charconv>
#include <cstring>

namespace tallygate::sidecar {
namespace {

constexpr size_t kMaxCredential = 1024;

in6_addr mapped(const in_addr& v4) {
  in6_addr v6{};
  v6.s6_addr[10] = v6.s6_addr[11] = 0xff;
  std::memcpy(&v6.s6_addr[12], &v4, 4);
  return v6;
}

bool printable(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x21 || static_cast<unsigned char>(c) > 0x7e) return false;
  }
  return true;
}

}  // namespace

Result<Cidr> Cidr::parse(std::string_view text) {
  const auto bad = [&] {
    return fail(Errc::kInvalid, "\"" + std::string(text) + "\" is not an address block such as 10.0.0.0/8");
  };
  const size_t slash = text.find('/');
  const std::string address(text.substr(0, slash));
  if (address.find('\0') != std::string::npos) return bad();
  Cidr cidr;
  in_addr v4{};
  int most = 128, given = -1;
  if (inet_pton(AF_INET, address.c_str(), &v4) == 1) {
    cidr.network = mapped(v4);
    most = 32;
  } else if (inet_pton(AF_INET6, address.c_str(), &cidr.network) != 1) {
    return bad();
  }
  if (slash == std::string_view::npos)
    given = most;
  else if (std::from_chars(text.data() + slash + 1, text.data() + text.size(), given).ptr != text.data() + text.size())
    return bad();
  if (given < 0 || given > most) return bad();
  cidr.bits = most == 32 ? given + 96 : given;
  return cidr;
}

bool Cidr::contains(const sockaddr* address) const {
  in6_addr other{};
  if (address == nullptr) return false;
  if (address->sa_family == AF_INET)
    other = mapped(reinterpret_cast<const sockaddr_in*>(address)->sin_addr);
  else if (address->sa_family == AF_INET6)
    other = reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
  else
    return false;
  const int whole = bits / 8;
  if (std::memcmp(&network, &other, static_cast<size_t>(whole)) != 0) return false;
  if (bits % 8 == 0) return true;
  const auto mask = static_cast<uint8_t>(0xff << (8 - bits % 8));
  return ((network.s6_addr[whole] ^ other.s6_addr[whole]) & mask) == 0;
}

Identifier::Identifier(const std::vector<tenant::IdentitySource>& sources, const std::string& tenant_header)
    : tenant_prefix_(tenant_header.empty() ? "" : tenant_header + ": ") {
  guarded_.add(tenant_header.empty() ? tenant::kTenantHeader : tenant_header);
  for (const auto& source : sources) {
    const bool always =
        source.forward == tenant::Forward::kAlways && source.type != tenant::IdentityType::kTrustedHeader;
    Source s{source.type, source.header, {}, source.forward == tenant::Forward::kVerified ? source.header + ": " : ""};
    guarded_.add(source.header, always);
    if (source.type == tenant::IdentityType::kTrustedHeader) trusted_.add(source.header);
    for (const auto& text : source.from_cidrs) {
      if (auto cidr = Cidr::parse(text)) s.from.push_back(*cidr);
    }
    if (!wanted_.empty()) wanted_ += " or ";
    wanted_ += source.type == tenant::IdentityType::kJwt ? "a bearer token" : "the " + source.header + " header";
    if (sources_.empty() && source.type == tenant::IdentityType::kJwt) challenge_ = "Bearer";
    sources_.push_back(std::move(s));
  }
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
        for (const Cidr& cidr : source.from) {
          if (cidr.contains(request.peer)) return {Reason::kAdmitted, false, found.value, source.prefix, ""};
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
