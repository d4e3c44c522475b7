#include "operator/admission/certificates.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <memory>
#include <set>

namespace tallygate::admission {
namespace {

constexpr size_t kAuthoritiesMax = 4;

template <auto fn>
struct Free {
  template <class T>
  void operator()(T* object) const {
    fn(object);
  }
};
using Bio = std::unique_ptr<BIO, Free<BIO_free_all>>;
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using Cert = std::unique_ptr<X509, Free<X509_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, Free<X509_EXTENSION_free>>;
using Names = std::unique_ptr<GENERAL_NAMES, Free<GENERAL_NAMES_free>>;

Bio reader(const std::string& text) { return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))); }

std::string content(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return size > 0 ? std::string(data, static_cast<size_t>(size)) : std::string();
}

std::string to_pem(X509* cert) {
  const Bio out(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(out.get(), cert);
  return content(out.get());
}

std::string to_pem(EVP_PKEY* key) {
  const Bio out(BIO_new(BIO_s_mem()));
  PEM_write_bio_PrivateKey(out.get(), key, nullptr, nullptr, 0, nullptr, nullptr);
  return content(out.get());
}

// No passphrase is asked for on a terminal.
int no_passphrase(char*, int, int, void*) { return 0; }

Cert read_cert(BIO* bio) { return Cert(PEM_read_bio_X509(bio, nullptr, no_passphrase, nullptr)); }
Key read_key(BIO* bio) { return Key(PEM_read_bio_PrivateKey(bio, nullptr, no_passphrase, nullptr)); }
Cert read_cert(const std::string& pem) { return read_cert(reader(pem).get()); }
Key read_key(const std::string& pem) { return read_key(reader(pem).get()); }

int64_t seconds(const ASN1_TIME* time) {
  tm parts{};
  return ASN1_TIME_to_tm(time, &parts) == 1 ? timegm(&parts) : 0;
}
int64_t not_before(const X509* cert) { return seconds(X509_get0_notBefore(cert)); }
int64_t not_after(const X509* cert) { return seconds(X509_get0_notAfter(cert)); }

bool add_extension(X509* cert, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, cert, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  return extension != nullptr && X509_add_ext(cert, extension.get(), -1) == 1;
}

// With serial number, times, subject and key; neither extensions nor signature.
Cert begin(EVP_PKEY* key, const std::string& subject, int64_t from_s, int64_t until_s) {
  Cert cert(X509_new());
  unsigned char serial[16];
  if (cert == nullptr || RAND_bytes(serial, sizeof serial) != 1) return nullptr;
  serial[0] &= 0x7f;  // positive
  BIGNUM* number = BN_bin2bn(serial, sizeof serial, nullptr);
  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert.get()));
  BN_free(number);
  X509_set_version(cert.get(), X509_VERSION_3);
  ASN1_TIME_set(X509_getm_notBefore(cert.get()), from_s);
  ASN1_TIME_set(X509_getm_notAfter(cert.get()), until_s);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(cert.get()), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(subject.c_str()), -1, -1, 0);
  X509_set_pubkey(cert.get(), key);
  return cert;
}

Error failed(const char* what) {
  char text[256] = "";
  ERR_error_string_n(ERR_get_error(), text, sizeof text);
  return {Errc::kInternal, std::string("cannot make ") + what + ": " + text};
}

Result<Authority> make_authority(int64_t now_s, const CertificateLives& lives) {
  const Key key(EVP_EC_gen("P-256"));
  if (key == nullptr) return tl::unexpected(failed("a key"));
  Authority made;
  made.not_before_s = now_s - lives.backdated_s;
  made.not_after_s = now_s + lives.authority_s;
  // Two of the same name would be told apart by their keys' identifiers alone.
  const Cert cert =
      begin(key.get(), "tallygate webhook authority " + std::to_string(now_s), made.not_before_s, made.not_after_s);
  if (cert == nullptr || X509_set_issuer_name(cert.get(), X509_get_subject_name(cert.get())) != 1 ||
      !add_extension(cert.get(), cert.get(), NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
      !add_extension(cert.get(), cert.get(), NID_key_usage, "critical,keyCertSign,cRLSign") ||
      !add_extension(cert.get(), cert.get(), NID_subject_key_identifier, "hash") ||
      X509_sign(cert.get(), key.get(), EVP_sha256()) == 0) {
    return tl::unexpected(failed("an authority"));
  }
  made.certificate = to_pem(cert.get());
  made.key = to_pem(key.get());
  return made;
}

Result<void> issue(Certificates* all, const Authority& by, const std::vector<std::string>& names, int64_t now_s,
                   const CertificateLives& lives) {
  const Cert authority = read_cert(by.certificate);
  const Key authority_key = read_key(by.key);
  const Key key(EVP_EC_gen("P-256"));
  if (key == nullptr) return tl::unexpected(failed("a key"));
  std::string alternative;
  for (const std::string& name : names) alternative += (alternative.empty() ? "DNS:" : ",DNS:") + name;
  // Never longer than who vouches for it.
  const Cert cert = begin(key.get(), "tallygate webhook", std::max(now_s - lives.backdated_s, by.not_before_s),
                          std::min(now_s + lives.serving_s, by.not_after_s));
  if (cert == nullptr || X509_set_issuer_name(cert.get(), X509_get_subject_name(authority.get())) != 1 ||
      !add_extension(cert.get(), authority.get(), NID_basic_constraints, "critical,CA:FALSE") ||
      !add_extension(cert.get(), authority.get(), NID_key_usage, "critical,digitalSignature") ||
      !add_extension(cert.get(), authority.get(), NID_ext_key_usage, "serverAuth") ||
      !add_extension(cert.get(), authority.get(), NID_authority_key_identifier, "keyid:always") ||
      !add_extension(cert.get(), authority.get(), NID_subject_alt_name, alternative) ||
      X509_sign(cert.get(), authority_key.get(), EVP_sha256()) == 0) {
    return tl::unexpected(failed("a certificate"));
  }
  all->certificate = to_pem(cert.get());
  all->key = to_pem(key.get());
  return {};
}

std::set<std::string> names_of(X509* cert) {
  std::set<std::string> found;
  const Names names(static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(cert, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_DNS) continue;
    found.emplace(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                  static_cast<size_t>(ASN1_STRING_length(name->d.dNSName)));
  }
  return found;
}

bool is_old(int64_t from_s, int64_t until_s, int64_t now_s) { return until_s - now_s < (until_s - from_s) / 3; }

bool serves(const Certificates& all, const Authority& by, const std::vector<std::string>& names, int64_t now_s) {
  const Cert cert = read_cert(all.certificate);
  const Key key = read_key(all.key);
  const Cert authority = read_cert(by.certificate);
  return cert != nullptr && key != nullptr && X509_check_private_key(cert.get(), key.get()) == 1 &&
         X509_verify(cert.get(), X509_get0_pubkey(authority.get())) == 1 && not_before(cert.get()) <= now_s &&
         !is_old(not_before(cert.get()), not_after(cert.get()), now_s) &&
         names_of(cert.get()) == std::set<std::string>(names.begin(), names.end());
}

}  // namespace

std::string Certificates::bundle() const {
  std::string all;
  for (const Authority& authority : authorities) all += authority.certificate;
  return all;
}

Certificates parse_certificates(const std::map<std::string, std::string>& data) {
  const auto text = [&](const char* key) {
    const auto found = data.find(key);
    return found == data.end() ? std::string() : found->second;
  };
  Certificates all;
  const std::string certificates = text("ca.crt"), keys = text("ca.key");
  const Bio from = reader(certificates), keys_from = reader(keys);
  for (Cert cert = read_cert(from.get()); cert != nullptr; cert = read_cert(from.get())) {
    const Key key = read_key(keys_from.get());
    if (key == nullptr || X509_check_private_key(cert.get(), key.get()) != 1) continue;
    all.authorities.push_back({to_pem(cert.get()), to_pem(key.get()), not_before(cert.get()), not_after(cert.get())});
  }
  ERR_clear_error();  // the last read found no more
  std::sort(all.authorities.begin(), all.authorities.end(),
            [](const Authority& a, const Authority& b) { return a.not_before_s < b.not_before_s; });
  all.certificate = text("tls.crt");
  all.key = text("tls.key");
  return all;
}

std::map<std::string, std::string> to_data(const Certificates& all) {
  std::string keys;
  for (const Authority& authority : all.authorities) keys += authority.key;
  return {{"ca.crt", all.bundle()}, {"ca.key", keys}, {"tls.crt", all.certificate}, {"tls.key", all.key}};
}

Result<bool> renew(Certificates* all, const std::vector<std::string>& names, int64_t now_s,
                   const CertificateLives& lives) {
  auto& authorities = all->authorities;
  // One from a clock that was ahead is of no use either: API servers do not believe it yet.
  bool changed = std::erase_if(authorities, [&](const Authority& each) {
                   return each.not_after_s <= now_s || each.not_before_s > now_s;
                 }) > 0;
  if (authorities.empty() || is_old(authorities.back().not_before_s, authorities.back().not_after_s, now_s)) {
    auto made = make_authority(now_s, lives);
    if (!made) return tl::unexpected(made.error());
    authorities.push_back(std::move(*made));
    changed = true;
  }
  if (authorities.size() > kAuthoritiesMax) authorities.erase(authorities.begin(), authorities.end() - kAuthoritiesMax);
  const Authority* signer = &authorities.front();
  for (const Authority& each : authorities) {
    if (each.not_before_s + lives.backdated_s + lives.joint_s <= now_s) signer = &each;
  }
  if (!serves(*all, *signer, names, now_s)) {
    if (auto issued = issue(all, *signer, names, now_s, lives); !issued) return tl::unexpected(issued.error());
    changed = true;
  }
  ERR_clear_error();
  return changed;
}

}  // namespace tallygate::admission
