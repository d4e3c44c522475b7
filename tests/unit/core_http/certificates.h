// Certificates for tests, made with openssl(1)'s library when the test starts: nothing is kept in the tree that
// expires.
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <memory>
#include <string>

namespace tallygate::http {

// An authority and a certificate of its for localhost and 127.0.0.1, as PEM files that live as long as this.
class TestCertificates {
 public:
  explicit TestCertificates(const std::string& folder) : stem_(folder + "tg_tls_" + random_name()) {
    const Key authority_key = make_key(), server_key = make_key();
    const Certificate authority = make("test authority " + random_name(), authority_key, authority_key, nullptr);
    const Certificate server = make("localhost", server_key, authority_key, authority.get());
    write(ca_file(), [&](FILE* f) { PEM_write_X509(f, authority.get()); });
    write(certificate_file(), [&](FILE* f) { PEM_write_X509(f, server.get()); });
    write(key_file(),
          [&](FILE* f) { PEM_write_PrivateKey(f, server_key.get(), nullptr, nullptr, 0, nullptr, nullptr); });
  }
  ~TestCertificates() {
    for (const auto& path : {ca_file(), certificate_file(), key_file()}) std::remove(path.c_str());
  }
  TestCertificates(const TestCertificates&) = delete;
  TestCertificates& operator=(const TestCertificates&) = delete;
  std::string ca_file() const { return stem_ + "_ca.pem"; }
  std::string certificate_file() const { return stem_ + "_cert.pem"; }
  std::string key_file() const { return stem_ + "_key.pem"; }

 private:
  using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
  using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;

  static std::string random_name() {
    unsigned char bytes[4];
    RAND_bytes(bytes, sizeof bytes);
    char text[16];
    std::snprintf(text, sizeof text, "%02x%02x%02x%02x", bytes[0], bytes[1], bytes[2], bytes[3]);
    return text;
  }
  static Key make_key() { return {EVP_EC_gen("P-256"), &EVP_PKEY_free}; }
  static void extend(X509* certificate, int id, const char* value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, id, value);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }
  // Self-signed where there is no issuer.
  static Certificate make(const std::string& name, const Key& key, const Key& signer, X509* issuer) {
    Certificate certificate(X509_new(), &X509_free);
    X509_set_version(certificate.get(), 2);
    unsigned char serial[4];
    RAND_bytes(serial, sizeof serial);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), serial[0] * 65536 + serial[1] * 256 + serial[2] + 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
    X509_set_pubkey(certificate.get(), key.get());
    X509_NAME* subject = X509_get_subject_name(certificate.get());
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name.c_str()), -1,
                               -1, 0);
    X509_set_issuer_name(certificate.get(), issuer == nullptr ? subject : X509_get_subject_name(issuer));
    if (issuer == nullptr) {
      extend(certificate.get(), NID_basic_constraints, "critical,CA:TRUE");
    } else {
      extend(certificate.get(), NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    }
    X509_sign(certificate.get(), signer.get(), EVP_sha256());
    return certificate;
  }
  template <class Fn>
  static void write(const std::string& path, Fn fn) {
    FILE* f = std::fopen(path.c_str(), "we");
    fn(f);
    std::fclose(f);
  }
  const std::string stem_;
};

}  // namespace tallygate::http
