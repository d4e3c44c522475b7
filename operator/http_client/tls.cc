// Authorities, certificate and key of the options, as OpenSSL wants them.
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <iterator>
#include <memory>

#include "core/file.h"
#include "operator/http_client/internal.h"

namespace tallygate {
namespace http_client_internal {
namespace {

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

int no_password(char*, int, int, void*) { return 0; }  // instead of asking at the terminal

Result<std::string> pem_of(const std::string& file, const std::string& pem) {
  if (!pem.empty() || file.empty()) return pem;
  auto text = read_file(file);
  if (!text) return fail(Errc::kInvalid, text.error().message);
  return text;
}

Certificate next_certificate(const Bio& in) {
  return {PEM_read_bio_X509_AUX(in.get(), nullptr, no_password, nullptr), &X509_free};
}

Result<void> trust(const std::string& pem, SSL_CTX* context) {
  X509_STORE* store = X509_STORE_new();
  SSL_CTX_set_cert_store(context, store);  // owns it
  const Bio in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free);
  int count = 0;
  while (const Certificate authority = next_certificate(in)) count += X509_STORE_add_cert(store, authority.get());
  if (count == 0) return fail(Errc::kInvalid, "the certificate authorities hold no certificate in PEM form");
  return {};
}

Result<void> present(const std::string& pem, const std::string& key_pem, SSL_CTX* context) {
  const Bio in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free);
  const Certificate own = next_certificate(in);
  if (!own || SSL_CTX_use_certificate(context, own.get()) != 1) {
    return fail(Errc::kInvalid, "the client certificate is not a certificate in PEM form");
  }
  while (const Certificate issuer = next_certificate(in)) SSL_CTX_add1_chain_cert(context, issuer.get());
  const Bio key_in(BIO_new_mem_buf(key_pem.data(), static_cast<int>(key_pem.size())), &BIO_free);
  const Key key(PEM_read_bio_PrivateKey(key_in.get(), nullptr, no_password, nullptr), &EVP_PKEY_free);
  if (!key) return fail(Errc::kInvalid, "the client key is not an unencrypted private key in PEM form");
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
    return fail(Errc::kInvalid, "the client key is not that of the client certificate");
  }
  return {};
}

Result<void> load(const HttpClientOptions& options, SSL_CTX* context) {
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  if (!options.ca_file.empty() || !options.ca_pem.empty()) {
    const auto pem = pem_of(options.ca_file, options.ca_pem);
    if (const auto trusted = trust(pem.value_or(""), context); !pem || !trusted) {
      return tl::unexpected<Error>(!pem ? pem.error() : trusted.error());
    }
  }
  const auto certificate = pem_of(options.certificate_file, options.certificate_pem);
  if (!certificate) return tl::unexpected<Error>(certificate.error());
  if (certificate->empty()) return {};
  const auto key = pem_of(options.key_file, options.key_pem);
  if (!key) return tl::unexpected<Error>(key.error());
  return present(*certificate, *key, context);
}

}  // namespace

Result<void> load_tls(const HttpClientOptions& options, SSL_CTX* context) {
  auto loaded = load(options, context);
  ERR_clear_error();
  return loaded;
}

}  // namespace http_client_internal

Result<void> check_tls(const HttpClientOptions& options) {
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
  if (!context) return fail(Errc::kExhausted, "no memory for TLS");
  return http_client_internal::load_tls(options, context.get());
}

}  // namespace tallygate
