#include "operator/stripe/signature.h"

#include <charconv>
#include <optional>
#include <vector>

#include "core/hmac.h"

namespace tallygate::stripe {
namespace {

constexpr size_t kHeaderBytesMax = 4096;
// While a secret is rolled Stripe signs with each that is in force: a few.
constexpr size_t kSignaturesMax = 16;
constexpr size_t kMacBytes = 32;

struct Signed {
  std::string_view moment;           // as it was written: that is what was signed
  std::vector<std::string_view> v1;  // other schemes are no proof of anything here
};

int nibble(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> bytes_of(std::string_view hex) {
  if (hex.size() != 2 * kMacBytes) return std::nullopt;
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    const int high = nibble(hex[i]), low = nibble(hex[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    bytes += static_cast<char>(high * 16 + low);
  }
  return bytes;
}

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

std::string read_header(std::string_view header, Signed& out) {
  if (header.empty()) return "there is no Stripe-Signature";
  if (header.size() > kHeaderBytesMax) return "the signature's header is too long";
  while (!header.empty()) {
    const size_t comma = header.find(',');
    const std::string_view item = trimmed(header.substr(0, comma));
    header = comma == std::string_view::npos ? std::string_view() : header.substr(comma + 1);
    if (item.starts_with("t=")) {
      if (!out.moment.empty()) return "the header has two moments";
      out.moment = item.substr(2);
      if (out.moment.empty()) return "the header has no moment";
    } else if (item.starts_with("v1=")) {
      if (out.v1.size() == kSignaturesMax) return "the header has too many signatures";
      out.v1.push_back(item.substr(3));
    }
  }
  if (out.moment.empty()) return "the header has no moment";
  if (out.v1.empty()) return "the header has no signature of scheme v1";
  return "";
}

std::string moment_fault(std::string_view text, int64_t now_s) {
  int64_t moment_s = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), moment_s);
  if (error != std::errc{} || end != text.data() + text.size() || moment_s < 0) return "the moment is no number";
  if (moment_s < now_s - kSignatureTolerance_s) return "it was signed too long ago, or this machine's clock is ahead";
  if (moment_s > now_s + kSignatureTolerance_s) return "it was signed in the future, or this machine's clock is behind";
  return "";
}

}  // namespace

std::string signature_fault(std::string_view header, std::string_view body, std::span<const std::string> secrets,
                            int64_t now_s) {
  Signed sent;
  if (std::string fault = read_header(header, sent); !fault.empty()) return fault;
  if (std::string fault = moment_fault(sent.moment, now_s); !fault.empty()) return fault;
  std::string text(sent.moment);
  (text += '.') += body;
  bool matches = false;
  for (const std::string& secret : secrets) {
    const std::string expected = hmac_sha256(secret, text);
    for (const std::string_view hex : sent.v1) {
      const auto mac = bytes_of(hex);
      matches = (mac && equal_in_constant_time(*mac, expected)) || matches;
    }
  }
  return matches ? "" : "no signature matches: is the secret that of this endpoint, and the body as it was sent?";
}

}  // namespace tallygate::stripe
