#include "operator/admission/certificates.h"

#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>
#include <set>

namespace tallygate::admission {
namespace {

constexpr int64_t kNow = 1'780'000'000, kHour = 3600, kDay = 24 * kHour;
const std::vector<std::string> kNames = {"tallygate-webhook.tallygate-system.svc"};

std::unique_ptr<X509, decltype(&X509_free)> read(BIO* bio) {
  return {PEM_read_bio_X509(bio, nullptr, nullptr, nullptr), X509_free};
}

// As an API server at that time sees it.
std::string verify(const std::string& certificate, const std::string& bundle, int64_t at_s, const std::string& name) {
  const std::unique_ptr<BIO, decltype(&BIO_free_all)> roots(BIO_new_mem_buf(bundle.data(), -1), BIO_free_all),
      served(BIO_new_mem_buf(certificate.data(), -1), BIO_free_all);
  const std::unique_ptr<X509_STORE, decltype(&X509_STORE_free)> store(X509_STORE_new(), X509_STORE_free);
  for (auto root = read(roots.get()); root != nullptr; root = read(roots.get())) {
    X509_STORE_add_cert(store.get(), root.get());
  }
  ERR_clear_error();
  const auto cert = read(served.get());
  if (cert == nullptr) return "no certificate";
  const std::unique_ptr<X509_STORE_CTX, decltype(&X509_STORE_CTX_free)> context(X509_STORE_CTX_new(),
                                                                                X509_STORE_CTX_free);
  X509_STORE_CTX_init(context.get(), store.get(), cert.get(), nullptr);
  X509_VERIFY_PARAM* parameters = X509_STORE_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_time(parameters, at_s);
  X509_VERIFY_PARAM_set_purpose(parameters, X509_PURPOSE_SSL_SERVER);
  X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_X509_STRICT);
  X509_VERIFY_PARAM_set1_host(parameters, name.data(), name.size());
  if (X509_verify_cert(context.get()) == 1) return "";
  return X509_verify_cert_error_string(X509_STORE_CTX_get_error(context.get()));
}

Certificates made_at(int64_t now_s) {
  Certificates all;
  EXPECT_TRUE(renew(&all, kNames, now_s).value());
  return all;
}

TEST(Certificates, AreTrustedForTheirNameAlone) {
  const Certificates all = made_at(kNow);
  EXPECT_EQ(verify(all.certificate, all.bundle(), kNow, kNames[0]), "");
  EXPECT_NE(verify(all.certificate, all.bundle(), kNow, "other.tallygate-system.svc"), "");
  EXPECT_NE(verify(all.certificate, made_at(kNow + 1).bundle(), kNow, kNames[0]), "");
}

TEST(Certificates, HoldForClocksThatAreBehind) {
  const Certificates all = made_at(kNow);
  EXPECT_EQ(verify(all.certificate, all.bundle(), kNow - kHour, kNames[0]), "");
  EXPECT_NE(verify(all.certificate, all.bundle(), kNow - kHour - 1, kNames[0]), "");
}

TEST(Certificates, SurviveTheirSecret) {
  const Certificates all = made_at(kNow);
  Certificates read = parse_certificates(to_data(all));
  EXPECT_EQ(to_data(read), to_data(all));
  EXPECT_FALSE(renew(&read, kNames, kNow + kDay).value());
}

TEST(Certificates, WhatIsWrongIsMadeAnewAndTheRestKept) {
  const auto good = to_data(made_at(kNow));
  const auto other = to_data(made_at(kNow));
  const auto mend = [&](const std::string& key, const std::string& value) {
    auto data = good;
    data[key] = value;
    Certificates all = parse_certificates(data);
    EXPECT_TRUE(renew(&all, kNames, kNow).value()) << key;
    EXPECT_EQ(verify(all.certificate, all.bundle(), kNow, kNames[0]), "") << key;
    return all;
  };
  for (const std::string& bad : {std::string(), std::string("garbage")}) {
    EXPECT_EQ(mend("tls.crt", bad).bundle(), good.at("ca.crt"));
    EXPECT_EQ(mend("tls.key", bad).bundle(), good.at("ca.crt"));
    EXPECT_NE(mend("ca.crt", bad).bundle(), good.at("ca.crt"));
    EXPECT_NE(mend("ca.key", bad).bundle(), good.at("ca.crt"));
  }
  EXPECT_EQ(mend("tls.key", other.at("tls.key")).bundle(), good.at("ca.crt"));
  EXPECT_EQ(mend("tls.crt", other.at("tls.crt")).bundle(), good.at("ca.crt"));
  EXPECT_NE(mend("ca.key", other.at("ca.key")).bundle(), good.at("ca.crt"));
}

TEST(Certificates, AnotherNameMeansAnotherCertificate) {
  Certificates all = made_at(kNow);
  const std::string bundle = all.bundle();
  EXPECT_TRUE(renew(&all, {"new.svc"}, kNow).value());
  EXPECT_EQ(all.bundle(), bundle);
  EXPECT_EQ(verify(all.certificate, bundle, kNow, "new.svc"), "");
}

// Through many authorities: whoever knows the bundle of a moment ago trusts the certificate of now, and the other way
// round.
TEST(Certificates, RotateWithoutAMomentOfDistrust) {
  const CertificateLives lives{.authority_s = 20 * kDay, .serving_s = 3 * kDay};
  Certificates all;
  ASSERT_TRUE(renew(&all, kNames, kNow, lives));
  std::set<std::string> bundles{all.bundle()}, certificates{all.certificate};
  std::string bundle_before = all.bundle(), certificate_before = all.certificate;
  int64_t changed_s = kNow;
  for (int64_t now = kNow; now < kNow + 90 * kDay; now += now - changed_s < 3 * kHour ? kHour / 2 : kDay / 4) {
    const auto changed = renew(&all, kNames, now, lives);
    ASSERT_TRUE(changed);
    ASSERT_EQ(verify(all.certificate, bundle_before, now, kNames[0]), "") << now - kNow;
    ASSERT_EQ(verify(certificate_before, all.bundle(), now, kNames[0]), "") << now - kNow;
    ASSERT_LE(all.authorities.size(), 2u);
    if (*changed) changed_s = now;
    bundles.insert(bundle_before = all.bundle());
    certificates.insert(certificate_before = all.certificate);
  }
  EXPECT_GE(bundles.size(), 10u);  // with one, then with two
  EXPECT_GE(certificates.size(), 30u);
}

TEST(Certificates, AnAuthorityFromTheFutureIsReplaced) {
  Certificates all = made_at(kNow + 10 * kDay);
  EXPECT_TRUE(renew(&all, kNames, kNow).value());
  EXPECT_EQ(verify(all.certificate, all.bundle(), kNow, kNames[0]), "");
}

}  // namespace
}  // namespace tallygate::admission
