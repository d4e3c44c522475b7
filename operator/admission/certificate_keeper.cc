#include "operator/admission/certificate_keeper.h"

#include <chrono>

#include "core/base64.h"
#include "core/file.h"
#include "core/telemetry/log.h"
#include "operator/admission/pod.h"

namespace tallygate::admission {
namespace {

const kube::ResourceType kSecrets{"", "v1", "secrets", "Secret", true};
const kube::ResourceType kValidating{"admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations",
                                     "ValidatingWebhookConfiguration", false};
const kube::ResourceType kMutating{"admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations",
                                   "MutatingWebhookConfiguration", false};

// One object by its name: what a role may be limited to.
kube::ReflectorOptions only(const kube::ResourceType& type, const kube::ObjectName& name) {
  kube::ReflectorOptions options;
  options.type = type;
  options.name_space = name.name_space;
  options.selector.fields = "metadata.name=" + name.name;
  return options;
}

std::map<std::string, std::string> data_of(const Json& secret) {
  std::map<std::string, std::string> data;
  for (const auto& [key, value] : strings_at(secret, "/data")) {
    if (auto text = base64_decode(value)) data[key] = std::move(*text);
  }
  return data;
}

// Labels, owner and whatever else somebody gave it stay.
Json with_data(Json secret, const std::map<std::string, std::string>& data, const kube::ObjectName& name) {
  if (secret.empty()) {
    secret = {{"apiVersion", "v1"},
              {"kind", "Secret"},
              {"metadata",
               {{"name", name.name},
                {"namespace", name.name_space},
                {"labels", {{"app.kubernetes.io/managed-by", "tallygate-operator"}}}}},
              {"type", "Opaque"}};
  }
  for (const auto& [key, value] : data) secret["data"][key] = base64_encode(value);
  return secret;
}

Result<std::string> read_pem(const std::string& path) {
  auto text = read_file(path);
  if (text && text->empty()) return fail(Errc::kUnavailable, path + " is empty");
  return text;
}

}  // namespace

CertificateKeeper::CertificateKeeper(Env& env, kube::Client& client, KeeperOptions options, Use use,
                                     metrics::Registry& registry)
    : env_(env), client_(client), options_(std::move(options)), use_(std::move(use)) {
  renewed_ = registry.counter("tallygate_operator_webhook_certificates_renewed_total",
                              "Certificates or authorities of the webhook that this process made.");
  mended_ = registry.counter("tallygate_operator_webhook_bundles_mended_total",
                             "Webhook configurations whose caBundle was not ours and was put right.");
  failures_ = registry.counter("tallygate_operator_webhook_certificate_failures_total",
                               "Times that the webhook's certificate or its configurations could not be looked after.");
  if (!options_.folder.empty()) return;
  const auto changed = [this](const std::vector<kube::Change>&, bool) { kick(); };
  secrets_ = std::make_unique<kube::Reflector>(env_, client_, only(kSecrets, options_.secret), changed, registry);
  const kube::ObjectName configuration{"", options_.configuration};
  validating_ = std::make_unique<kube::Reflector>(env_, client_, only(kValidating, configuration), changed, registry);
  mutating_ = std::make_unique<kube::Reflector>(env_, client_, only(kMutating, configuration), changed, registry);
}

CertificateKeeper::~CertificateKeeper() { stop(); }

void CertificateKeeper::start() {
  thread_ = std::thread([this] { run(); });
  for (auto* each : {&secrets_, &validating_, &mutating_}) {
    if (*each) (*each)->start();
  }
}

void CertificateKeeper::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (auto* each : {&secrets_, &validating_, &mutating_}) {
    if (*each) (*each)->stop();
  }
  if (thread_.joinable()) thread_.join();
}

std::string CertificateKeeper::trouble() const {
  const std::lock_guard lock(mutex_);
  return trouble_;
}

void CertificateKeeper::kick() {
  {
    const std::lock_guard lock(mutex_);
    kicked_ = true;
  }
  wake_.notify_all();
}

void CertificateKeeper::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    kicked_ = false;
    lock.unlock();
    const Result<void> looked = look();
    if (!looked) {
      failures_.add();
      static log::Throttle throttle(10);
      log::warn(throttle, "the webhook's certificate is not in order", {{"error", looked.error().message}});
    }
    lock.lock();
    trouble_ = looked ? "" : looked.error().message;
    wake_.wait_for(lock, std::chrono::milliseconds(options_.look_ms), [this] { return kicked_ || stopping_; });
  }
}

Result<void> CertificateKeeper::look() { return options_.folder.empty() ? look_at_secret() : look_at_files(); }

Result<void> CertificateKeeper::look_at_files() {
  const auto certificate = read_pem(options_.folder + "/tls.crt");
  if (!certificate) return tl::unexpected(certificate.error());
  const auto key = read_pem(options_.folder + "/tls.key");
  if (!key) return tl::unexpected(key.error());
  return serve(*certificate, *key);
}

Result<void> CertificateKeeper::look_at_secret() {
  const kube::ReflectorHealth health = secrets_->health();
  if (!health.synced) {
    return fail(Errc::kUnavailable, "the Secret " + options_.secret.str() + " is not known yet" +
                                        (health.error.empty() ? "" : ": " + health.error));
  }
  const auto known = secrets_->known();
  const auto found = known->find(options_.secret);
  const Json secret = found == known->end() ? Json::object() : parse_object(found->second->json);
  Certificates all = secret.empty() ? in_use_ : parse_certificates(data_of(secret));
  const auto changed = renew(&all, options_.dns_names, env_.wall_s(), options_.lives);
  if (!changed) return tl::unexpected(changed.error());
  if (*changed || secret.empty()) {
    const std::string json = with_data(secret, to_data(all), options_.secret).dump();
    const auto written = secret.empty() ? client_.create_object(kSecrets, options_.secret.name_space, json)
                                        : client_.replace(kSecrets, options_.secret, json);
    // Another replica was first: the watch brings what it wrote.
    if (!written && written.error().errc == Errc::kConflict) return {};
    if (!written) return tl::unexpected(written.error());
    renewed_.add();
    log::info("wrote the webhook's certificate",
              {{"secret", options_.secret.str()}, {"authorities", all.authorities.size()}});
    // Served once the watch has it too: what is known then is what is stored.
    return {};
  }
  // Trust first: who is to be believed must be known before it is used. But what is not told yet keeps nobody from
  // listening: a webhook that does not answer is no better than one that is not believed.
  const auto mended = mend_bundles(all.bundle());
  if (!mended && !in_use_.certificate.empty()) return mended;
  if (auto served = serve(all.certificate, all.key); !served) return served;
  in_use_.authorities = std::move(all.authorities);
  return mended;
}

Result<void> CertificateKeeper::serve(const std::string& certificate, const std::string& key) {
  if (in_use_.certificate == certificate && in_use_.key == key) return {};
  if (auto used = use_(certificate, key); !used) return used;
  in_use_.certificate = certificate;
  in_use_.key = key;
  return {};
}

Result<void> CertificateKeeper::mend_bundles(const std::string& bundle) {
  const std::string wanted = base64_encode(bundle);
  Result<void> outcome;
  for (const auto& [reflector, type] : {std::pair(validating_.get(), &kValidating), {mutating_.get(), &kMutating}}) {
    const kube::ReflectorHealth health = reflector->health();
    const auto known = reflector->known();
    if (!health.synced || known->empty()) {
      const std::string what = std::string(type->kind) + " " + options_.configuration;
      outcome = fail(Errc::kUnavailable,
                     health.synced ? "there is no " + what + ": the API server asks this webhook nothing of its kind; "
                                     "install the chart's, or correct --webhook-configuration"
                                   : "the " + what + " is not known yet, nor whether it trusts this webhook" +
                                         (health.error.empty() ? "" : ": " + health.error));
      continue;
    }
    for (const auto& [name, object] : *known) {
      const Json configuration = parse_object(object->json);
      Json webhooks = at(configuration, "/webhooks");
      bool wrong = false;
      for (Json& webhook : webhooks) {
        if (text_at(webhook, "/clientConfig/caBundle") == wanted) continue;
        webhook["clientConfig"]["caBundle"] = wanted;
        wrong = true;
      }
      if (!wrong) continue;
      const Json patch = {{"metadata", {{"resourceVersion", object->resource_version}}}, {"webhooks", webhooks}};
      const auto written = client_.merge_patch(*type, name, patch.dump());
      if (written) {
        mended_.add();
        log::info("the API server is told whom to trust", {{"kind", type->kind}, {"name", name.name}});
      } else if (written.error().errc != Errc::kConflict) {
        outcome = tl::unexpected(written.error());  // the other one is still seen to
      }
    }
  }
  return outcome;
}

}  // namespace tallygate::admission
