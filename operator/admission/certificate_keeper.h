// Keeps the webhook's certificate, its authorities and what the API server trusts in agreement.
//
// Self-made: the certificates of certificates.h in one Secret, written by compare-and-set, so that all replicas serve
// the same; and its bundle in each webhook's clientConfig.caBundle of our two configurations, put back within a second
// where somebody overwrote it. From files (cert-manager's, say): tls.crt and tls.key of a folder, followed; the bundle
// is then somebody else's affair.
//
// Threading: one thread, from start() to stop(). `use` runs on it.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/env.h"
#include "core/telemetry/metrics.h"
#include "operator/admission/certificates.h"
#include "operator/kube/client.h"
#include "operator/kube/reflector.h"

namespace tallygate::admission {

struct KeeperOptions {
  std::string folder;         // of files; empty: self-made
  kube::ObjectName secret;    // where the self-made ones are
  std::string configuration;  // name of the ValidatingWebhookConfiguration and of the MutatingWebhookConfiguration
  std::vector<std::string> dns_names;
  CertificateLives lives = {};
  int64_t look_ms = 1'000;  // how often files are looked at, and the rest beside what watches tell
};

class CertificateKeeper {
 public:
  // Called with each new certificate and key; an error is told, and tried again.
  using Use = std::function<Result<void>(const std::string& certificate, const std::string& key)>;
  // `env`, `client` and `registry` outlive it; `client` is not used with files.
  CertificateKeeper(Env& env, kube::Client& client, KeeperOptions options, Use use, metrics::Registry& registry);
  ~CertificateKeeper();
  void start();
  void stop();
  // Why there is no certificate, or why what the API server trusts may be wrong; empty: all is well. Any thread.
  std::string trouble() const;

 private:
  void run();
  void kick();
  Result<void> look();
  Result<void> look_at_files();
  Result<void> look_at_secret();
  Result<void> serve(const std::string& certificate, const std::string& key);
  Result<void> mend_bundles(const std::string& bundle);

  Env& env_;
  kube::Client& client_;
  const KeeperOptions options_;
  Use use_;
  std::unique_ptr<kube::Reflector> secrets_, validating_, mutating_;
  Certificates in_use_;  // a Secret that is gone is written again from it
  metrics::Counter renewed_, mended_, failures_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool kicked_ = false, stopping_ = false;  // under mutex_
  std::string trouble_;                     // under mutex_
  std::thread thread_;
};

}  // namespace tallygate::admission
