// Twilio's status callbacks of messages: a form, signed in X-Twilio-Signature by HMAC-SHA1 over the public URL, as
// Twilio was given it, and the form's parameters in the order of their names. The hold is that of the call id in the
// URL's query (?callId=…), which an app can choose before it sends; without one, that of the message's SID.
#include <array>

#include "core/base64.h"
#include "operator/api/provider/adapter.h"
#include "operator/api/provider/form.h"
#include "operator/api/provider/payload.h"

namespace tallygate::api {
namespace {

constexpr size_t kSecretBytesMin = 16, kSecretBytesMax = 128;
constexpr std::array<std::string_view, 3> kDelivered = {"sent", "delivered", "read"};
constexpr std::array<std::string_view, 3> kFailed = {"failed", "undelivered", "canceled"};
constexpr std::array<std::string_view, 7> kUnderWay = {
    "accepted", "scheduled", "queued", "sending", "receiving", "received", "partially_delivered"};

template <size_t N>
bool is_one_of(const std::array<std::string_view, N>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

std::string secret_fault(std::string_view secret) {
  return secret.size() >= kSecretBytesMin && secret.size() <= kSecretBytesMax ? "" : "must be the account's auth token";
}

// Twilio signs the URL with its port or without, by the kind of callback: https://host/path and https://host:443/path
// are one. Another port than 443 is part of where it sends, and is signed or is not.
std::vector<std::string> with_and_without_port(const std::string& url) {
  constexpr size_t kScheme = std::string_view("https://").size();
  if (url.size() <= kScheme) return {url};
  const size_t end = std::min(url.find('/', kScheme), url.size());
  const std::string_view authority = std::string_view(url).substr(kScheme, end - kScheme);
  const size_t host = authority.rfind('@') == std::string_view::npos ? 0 : authority.rfind('@') + 1;
  const size_t bracket = authority.rfind(']');
  const size_t colon = authority.find(':', bracket == std::string_view::npos ? host : bracket);
  if (colon == std::string_view::npos) return {url, url.substr(0, end) + ":443" + url.substr(end)};
  return {url, url.substr(0, kScheme + colon) + url.substr(end)};
}

class Twilio final : public ProviderAdapter {
 public:
  Twilio(ProviderSecrets secrets, std::string public_url)
      : secrets_(std::move(secrets)), public_urls_(with_and_without_port(public_url)) {}

  bool authenticate(const http::Request& request, int64_t, std::string& why) const override {
    const auto given = only_header(request, "x-twilio-signature", why);
    if (!given) return false;
    const auto form = parse_form(request.body);
    if (!form) {
      why = "the form cannot be read, so its signature cannot either";
      return false;
    }
    std::string rest;
    if (!request.query.empty()) rest += '?' + request.query;
    for (const auto& [name, value] : *form) rest += name + value;
    for (const std::string& url : public_urls_) {
      const auto sign = [&](const std::string& token) { return base64_encode(hmac_sha1(token, url + rest)); };
      if (fits_any(secrets_, *given, sign)) return true;
    }
    why = "the signature does not fit: is publicUrl the URL that Twilio was given?";
    return false;
  }

  tl::expected<Reading, http::Response> read(const http::Request& request,
                                             const std::string& tenant_pointer) const override {
    auto form = parse_form(request.body);
    const auto query = parse_form(request.query);
    if (!is_json_type(request.header("content-type"), "application/x-www-form-urlencoded")) {
      return tl::unexpected<http::Response>(http::problem_response(
          {415, "UnsupportedMediaType", "The body must be application/x-www-form-urlencoded.", "", {}}));
    }
    if (!form || !query) {
      return tl::unexpected<http::Response>(http::problem_response(
          {400, "MalformedForm", "A parameter comes twice, is too long, or has a broken escape.", "", {}}));
    }
    std::erase_if(*form, [](const auto& parameter) { return parameter.second.empty(); });
    Payload payload(*form, *query);
    const std::string status = payload.text("/MessageStatus", 32);
    const std::string sid = payload.call_id("/MessageSid");
    ProviderEvent event = Ignored{status, is_one_of(kUnderWay, status)};
    if (is_one_of(kDelivered, status) || is_one_of(kFailed, status)) {
      MessageStatus message;
      message.message_id = query->contains("callId") ? payload.call_id("/query/callId") : sid;
      message.delivered = is_one_of(kDelivered, status);
      // What it costs is a negative number there.
      if (const auto price = payload.decimal("/Price", false)) message.price.amount = price->magnitude();
      message.price.currency = payload.currency("/PriceUnit").value_or("");
      event = std::move(message);
    }
    return reading_of(payload, std::move(event), tenant_pointer);
  }

  // Whatever became of it, there is nothing that Twilio could do.
  http::Response answer(const Outcome&) const override { return {204, "", "", {}}; }

 private:
  const ProviderSecrets secrets_;
  const std::vector<std::string> public_urls_;
};

std::unique_ptr<const ProviderAdapter> make(ProviderSecrets secrets, Fields& options) {
  std::string url = options.text("publicUrl", 2048);
  if (!url.empty() && (!url.starts_with("https://") || url.find_first_of("?# ") != std::string::npos)) {
    options.refuse("publicUrl", "must be the https URL that Twilio is given, without a query");
  }
  return std::make_unique<Twilio>(std::move(secrets), std::move(url));
}

}  // namespace

const AdapterKind kTwilioAdapter = {"twilio", false, "", &make, &secret_fault};

}  // namespace tallygate::api
