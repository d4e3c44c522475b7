#include "operator/source/kube_source.h"

#include <algorithm>
#include <set>
#include <vector>

#include "operator/source/cluster_objects.h"
#include "operator/source/secret_keys.h"

namespace tallygate::source {
namespace {

constexpr char kGroup[] = "billing.tallygate.dev";
constexpr int64_t kGather_ms = 10;
constexpr int64_t kHealth_ms = 500;

const kube::ResourceType kTypes[] = {{kGroup, "v1alpha1", "billingplans", "BillingPlan", false},
                                     {kGroup, "v1alpha1", "billingtenants", "BillingTenant", true},
                                     {kGroup, "v1alpha1", "billingpolicies", "BillingPolicy", true}};
const kube::ResourceType kNamespaces{"", "v1", "namespaces", "Namespace", false};
const kube::ResourceType kCrds{"apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", false};
const kube::ResourceType kSecrets{"", "v1", "secrets", "Secret", true};
constexpr char kNoOthersSecrets[] = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token";
constexpr char kSystemNamespace[] = "kube-system";

kube::ReflectorOptions one_object(const kube::ResourceType& type, const std::string& name) {
  kube::ReflectorOptions options;
  options.type = type;
  options.selector.fields = "metadata.name=" + name;
  options.metadata_only = true;
  return options;
}

}  // namespace

const kube::ResourceType& type_of(Kind kind) { return kTypes[static_cast<size_t>(kind)]; }

class KubeSource::Impl {
 public:
  Impl(Env& env, EventLoop& loop, kube::Client& client, const std::vector<std::string>& secret_namespaces,
       metrics::Registry& registry)
      : env_(env), loop_(loop) {
    const auto wake = [this](const std::vector<kube::Change>&, bool) { post([this] { schedule(kGather_ms); }); };
    system_ = std::make_unique<kube::Reflector>(env, client, one_object(kNamespaces, kSystemNamespace), wake, registry);
    for (const Kind kind : kKinds) {
      const auto& type = type_of(kind);
      kube::ReflectorOptions options;
      options.type = type;
      kinds_.push_back(std::make_unique<kube::Reflector>(
          env, client, options,
          [this, kind, &type](const std::vector<kube::Change>& changes, bool listed) {
            post([this, kind, &type, changes, listed] {
              listed_[static_cast<size_t>(kind)] |= listed;
              take(type, changes);
            });
          },
          registry));
      crds_.push_back(
          std::make_unique<kube::Reflector>(env, client, one_object(kCrds, type.plural + "." + kGroup), wake, registry));
    }
    for (const auto& name : secret_namespaces) {
      kube::ReflectorOptions options;
      options.type = kSecrets;
      options.name_space = name;
      options.selector.fields = kNoOthersSecrets;
      options.transform = keep_hashes_only;
      secrets_.push_back(std::make_unique<kube::Reflector>(
          env, client, options,
          [this, i = secrets_.size()](const std::vector<kube::Change>& changes, bool listed) {
            post([this, i, changes, listed] {
              if (listed) secrets_listed_.insert(i);
              take_secrets(changes);
            });
          },
          registry));
    }
  }
  ~Impl() { stop(); }

  Result<void> start(OnLook on_look) {
    if (running_) return {};
    running_ = true;
    on_look_ = std::move(on_look);
    for (auto* reflector : all()) reflector->start();
    watch_health();
    return {};
  }

  void stop() {
    if (!running_) return;
    running_ = false;
    loop_.cancel(look_timer_);
    loop_.cancel(health_timer_);
    look_timer_ = health_timer_ = 0;
    for (auto* reflector : all()) reflector->stop();
  }

  std::shared_ptr<const kube::Reflector::Known> known(Kind kind) const { return kinds_[static_cast<size_t>(kind)]->known(); }

 private:
  std::vector<kube::Reflector*> all() const {
    std::vector<kube::Reflector*> all{system_.get()};
    for (const auto& crd : crds_) all.push_back(crd.get());
    for (const auto& kind : kinds_) all.push_back(kind.get());
    for (const auto& secrets : secrets_) all.push_back(secrets.get());
    return all;
  }

  // From a reflector's thread. The reflectors are stopped before this goes, what they posted may run later.
  void post(std::function<void()> what) {
    loop_.post([alive = std::weak_ptr<bool>(alive_), this, what = std::move(what)] {
      if (!alive.expired() && running_) what();
    });
  }

  void take(const kube::ResourceType& type, const std::vector<kube::Change>& changes) {
    const int64_t now_ms = env_.mono_ms();
    bool changed = !looked_;
    for (const auto& change : changes) {
      changed |= change.now ? objects_.set(type.kind, *change.now, now_ms)
                            : objects_.remove(type.kind, change.name, now_ms);
    }
    if (changed) schedule(kGather_ms);
  }

  void take_secrets(const std::vector<kube::Change>& changes) {
    bool changed = false;
    for (const auto& change : changes) {
      changed |= change.now ? objects_.set_secret(*change.now) : objects_.remove_secret(change.name);
    }
    if (changed || !looked_) schedule(kGather_ms);
  }

  void schedule(int64_t delay_ms) {
    const int64_t due_ms = std::max(env_.mono_ms() + delay_ms, rests_until_ms_);
    if (look_timer_ != 0 && look_due_ms_ <= due_ms) return;
    loop_.cancel(look_timer_);
    look_due_ms_ = due_ms;
    look_timer_ = loop_.at_ns(due_ms * 1'000'000, [this] {
      look_timer_ = 0;
      look();
    });
  }

  void look() {
    const int64_t began_ms = env_.mono_ms();
    Look look;
    describe(look);
    const auto system = system_->known();
    for (const auto& [name, object] : *system) look.cluster = object->uid;
    looked_ = looked_ || (!look.cluster.empty() && synced());
    look.blank = !looked_;
    if (looked_) look.files = objects_.files(began_ms);
    doubt_ = look.doubt;
    trouble_ = look.trouble;
    const auto tell = on_look_;  // it may stop this
    tell(std::move(look));
    const int64_t ended_ms = env_.mono_ms();
    rests_until_ms_ = ended_ms + (ended_ms - began_ms) * 3 / 2;
    if (const int64_t at_ms = objects_.settles_at_ms(); running_ && at_ms > 0) schedule(std::max<int64_t>(0, at_ms - ended_ms));
  }

  // Whole lists of everything have arrived here: a reflector that has one may not have handed it over yet.
  bool synced() const {
    for (size_t i = 0; i < secrets_.size(); ++i) {
      // A namespace whose Secrets may not be read keeps nobody else waiting.
      if (!secrets_listed_.contains(i) && !secrets_[i]->health().forbidden) return false;
    }
    return std::all_of(std::begin(listed_), std::end(listed_), [](bool listed) { return listed; });
  }

  void describe(Look& look) const {
    for (const Kind kind : kKinds) {
      const auto& type = type_of(kind);
      const auto health = kinds_[static_cast<size_t>(kind)]->health();
      const auto crd = crds_[static_cast<size_t>(kind)]->known();
      const bool leaves = std::any_of(crd->begin(), crd->end(), [](const auto& entry) { return entry.second->deleting; });
      if (leaves) {
        look.doubt = "the CustomResourceDefinition of " + type.kind + " is being deleted";
        look.wiped = true;
      } else if (health.type_missing) {
        look.doubt = "the API server does not know " + type.kind + ": its CustomResourceDefinition is not there";
        look.wiped = true;
      } else if (health.forbidden) {
        look.doubt = "the API server lets us not read " + type.plural + " (" + health.error + ")";
      }
      // Between one watch and the next there is no error.
      if (look.trouble.empty() && !health.synced && health.error.empty()) look.trouble = type.plural + " are being read";
      if (look.trouble.empty() && !health.connected && !health.error.empty()) look.trouble = type.plural + ": " + health.error;
    }
    if (const auto health = system_->health(); !health.synced && look.trouble.empty()) {
      look.trouble = "namespace " + std::string(kSystemNamespace) + ": " + (health.error.empty() ? "being read" : health.error);
    }
    for (const auto& secrets : secrets_) {
      if (const auto health = secrets->health(); health.forbidden && look.trouble.empty()) {
        look.trouble = "Secrets of a namespace of --secret-namespaces cannot be read: " + health.error;
      }
    }
    if (!look.doubt.empty()) look.trouble = look.doubt;
  }

  // What no object tells: that the server is away, or knows a kind no more.
  void watch_health() {
    health_timer_ = loop_.after_ms(kHealth_ms, [this] { watch_health(); });
    Look now;
    describe(now);
    if (now.doubt != doubt_ || now.trouble != trouble_) schedule(0);
  }

  Env& env_;
  EventLoop& loop_;
  std::unique_ptr<kube::Reflector> system_;
  std::vector<std::unique_ptr<kube::Reflector>> kinds_, crds_;  // in the order of kKinds
  std::vector<std::unique_ptr<kube::Reflector>> secrets_;
  bool listed_[std::size(kKinds)] = {};  // of kinds_: a whole list has arrived on the loop
  std::set<size_t> secrets_listed_;      // of secrets_: the same
  OnLook on_look_;
  bool running_ = false;
  bool looked_ = false;  // everything has been listed once
  ClusterObjects objects_;
  std::string doubt_, trouble_;  // of the last look
  EventLoop::TimerId look_timer_ = 0, health_timer_ = 0;
  int64_t look_due_ms_ = 0, rests_until_ms_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

KubeSource::KubeSource(Env& env, EventLoop& loop, kube::Client& client, const std::vector<std::string>& secret_namespaces,
                       metrics::Registry& registry)
    : impl_(std::make_unique<Impl>(env, loop, client, secret_namespaces, registry)) {}
KubeSource::~KubeSource() = default;
Result<void> KubeSource::start(OnLook on_look) { return impl_->start(std::move(on_look)); }
void KubeSource::stop() { impl_->stop(); }
std::shared_ptr<const kube::Reflector::Known> KubeSource::known(Kind kind) const { return impl_->known(kind); }

}  // namespace tallygate::source
