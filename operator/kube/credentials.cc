#include "operator/kube/credentials.h"

#include <iterator>

#include "core/file.h"
#include "core/telemetry/log.h"

namespace tallygate::kube {
namespace {

constexpr int64_t kLookEach_ms = 10'000;
constexpr size_t kPageBytesMax = 256u << 20;  // objects are at most 1.5 MiB, a page has some hundreds

Result<std::string> text_of(const Secret& secret, const char* what) {
  if (secret.file.empty()) return secret.text;
  auto text = read_file(secret.file);
  if (!text) return fail(Errc::kInvalid, std::string(what) + ": " + text.error().message);
  if (text->find_first_not_of(" \r\n\t") == std::string::npos) {
    return fail(Errc::kInvalid, std::string(what) + ": " + secret.file + " is empty");
  }
  return text;
}

Result<std::string> token_of(const Secret& secret) {
  auto token = text_of(secret, "the token");
  if (!token) return token;
  while (!token->empty() && static_cast<unsigned char>(token->back()) <= ' ') token->pop_back();
  for (const char c : *token) {
    if (c <= ' ' || c >= 0x7f) return fail(Errc::kInvalid, "the token has characters that no token has");
  }
  return token;
}

}  // namespace

Result<std::unique_ptr<Credentials>> Credentials::open(Env& env, Config config) {
  std::unique_ptr<Credentials> credentials(new Credentials(env, std::move(config)));
  auto texts = credentials->read();
  if (!texts) return tl::unexpected<Error>(texts.error());
  if (auto taken = credentials->take(std::move(*texts)); !taken) return tl::unexpected<Error>(taken.error());
  credentials->looked_ms_ = env.mono_ms();
  return credentials;
}

Result<Credentials::Texts> Credentials::read() const {
  auto authorities = text_of(config_.authorities, "the certificate authorities");
  if (!authorities) return tl::unexpected<Error>(authorities.error());
  auto certificate = text_of(config_.certificate, "the client certificate");
  if (!certificate) return tl::unexpected<Error>(certificate.error());
  auto key = text_of(config_.key, "the client key");
  if (!key) return tl::unexpected<Error>(key.error());
  auto token = token_of(config_.token);
  if (!token) return tl::unexpected<Error>(token.error());
  return Texts{std::move(*authorities), std::move(*certificate), std::move(*key), std::move(*token)};
}

Result<void> Credentials::take(Texts texts) {
  if (!access_.http || !texts.same_tls(texts_)) {
    HttpClientOptions options;
    options.ca_pem = texts.authorities;
    options.certificate_pem = texts.certificate;
    options.key_pem = texts.key;
    options.tls_server_name = config_.tls_server_name;
    options.response_bytes_max = kPageBytesMax;
    if (auto usable = check_tls(options); !usable) return usable;
    access_.http = make_http_client(std::move(options));
  }
  access_.token = texts.token;
  texts_ = std::move(texts);
  return {};
}

void Credentials::look() {
  looked_ms_ = env_.mono_ms();
  auto texts = read();
  const auto taken = texts ? take(std::move(*texts)) : tl::unexpected<Error>(texts.error());
  static log::Throttle throttle(60);
  if (!taken) {
    log::warn(throttle, "credentials for the API server cannot be used; the ones from before stay in use",
              {{"error", taken.error().message}});
  }
}

Access Credentials::current() {
  const std::lock_guard lock(mutex_);
  if (env_.mono_ms() - looked_ms_ >= kLookEach_ms) look();
  return access_;
}

Access Credentials::read_again() {
  const std::lock_guard lock(mutex_);
  look();
  return access_;
}

}  // namespace tallygate::kube
