#include "sidecar/admission/directory.h"

#include "core/redis_contract/keys.h"
#include "core/tenant/wire.h"
#include "sidecar/admission/identify.h"

namespace tallygate::sidecar {

namespace rc = redis_contract;

namespace {

constexpr int64_t kPollMs = 500;
constexpr int64_t kUnknownForNs = 5'000'000'000;  // then a credential that nobody has is asked for again
constexpr size_t kMaxUnknown = 10'000;
constexpr int64_t kRetryMs = 50;
constexpr int64_t kDropEveryNs = 20'000'000;

}  // namespace

Directory::Directory(EventLoop& loop, redis::Connection& redis, redis::Connection& notices, std::string policy)
    : loop_(loop), redis_(redis), notices_(notices), policy_id_(std::move(policy)) {}

Directory::~Directory() {
  *alive_ = false;
  loop_.cancel(timer_);
  loop_.cancel(retry_timer_);
}

void Directory::start() {
  notices_.subscribe({rc::publish_channel()}, [this](const std::string&, const std::string&) { refresh(); });
  notices_.start();
  poll();
}

void Directory::refresh() {
  loop_.cancel(timer_);
  poll();
}

int64_t Directory::age_ns(const TenantEntry& tenant) const {
  const int64_t seen_ns = std::max(seen_ns_, tenant.confirmed_ns);
  return seen_ns == 0 ? INT64_MAX / 2 : loop_.now_ns() - seen_ns;
}

int64_t Directory::version_of(const std::string& id) const {
  const auto found = tenants_.find(id);
  return found == tenants_.end() || !found->second->exists ? 0 : found->second->doc.version;
}

void Directory::confirm(const std::string& id, bool suspended, const std::string& document) {
  const auto found = tenants_.find(id);
  if (found == tenants_.end() || !found->second->exists) return;
  TenantEntry& entry = *found->second;
  tenant::Tenant doc = entry.doc;
  if (!document.empty()) {
    auto read = tenant::tenant_from_json(document);
    if (!read) return fault_("cannot read the tenant " + id + " as the ledger has it: " + read.error().message);
    if (read->version > doc.version) doc = std::move(*read);  // Redis may have told a newer one already
  }
  if (suspended && !doc.suspended) {  // by the ledger itself: its document is the manifest's
    doc.suspended = true;
    doc.suspend_reason = "suspended in the ledger";
  }
  entry.confirmed_ns = loop_.now_ns();
  if (doc == entry.doc) return;
  renew(entry, std::move(doc));
  ask_again("T" + id);  // once Redis is back, what it says counts
}

void Directory::renew(TenantEntry& entry, tenant::Tenant doc) {
  entry.doc = std::move(doc);
  entry.fetched = entry.exists = true;
  entry.serial = ++serials_;
  tenant_changed_(entry);
}

void Directory::poll() {
  timer_ = loop_.after_ms(kPollMs, [this] { poll(); });
  if (polling_ || !redis_.connected()) return;
  polling_ = true;
  redis_.call({"HMGET", rc::meta_key(), "generation", "version"}, [this, alive = alive_](Result<redis::Reply> reply) {
    if (!*alive) return;
    polling_ = false;
    if (!reply || !reply->is_array() || reply->elements.size() != 2 || !reply->elements[0].is_text()) return;
    seen_ns_ = loop_.now_ns();
    const std::string& generation = reply->elements[0].text;
    const int64_t version = reply->elements[1].to_integer();
    if (generation == generation_ && version == version_ && has_policy_) return;
    const bool anew = generation != generation_;
    const int64_t since = version_;
    generation_ = generation;
    version_ = version;
    // Of another generation everything may have changed; what is gone is in no list of changes.
    if (anew) return changed_everything();
    if (!has_policy_) fetch_policy();
    redis_.call({"ZRANGEBYSCORE", rc::changes_key(), "(" + std::to_string(since), "+inf"},
                [this, alive](Result<redis::Reply> members) {
                  if (!*alive) return;
                  if (members && members->is_array()) changed_members(*members);
                  else version_ = 0;  // asked again at the next poll
                });
  });
}

void Directory::changed_everything() {
  fetch_policy();
  for (auto& [id, tenant] : tenants_) fetch_tenant(*tenant);
  for (auto& [name, identity] : identities_) fetch_identity(name, *identity);
}

// An answer was lost, or told nothing since Redis had lost everything: neither may a change be missed for that, nor
// Redis be asked as fast as it answers.
void Directory::ask_again(std::string member) {
  again_.push_back(std::move(member));
  if (again_.size() == 1) retry_timer_ = loop_.after_ms(kRetryMs, [this] { retry(); });
}

void Directory::retry() {
  if (!redis_.connected()) {
    retry_timer_ = loop_.after_ms(kRetryMs, [this] { retry(); });
    return;
  }
  std::vector<std::string> batch;
  batch.swap(again_);
  for (const auto& member : batch) {
    const std::string name = member.substr(1);
    if (member[0] == 'P') {
      fetch_policy();
    } else if (member[0] == 'T') {
      TenantEntry& entry = tenant(name);
      entry.retry_ns = 0;
      if (entry.fetched) fetch_tenant(entry);
      else resume_all(entry.waiting);  // whoever still waits asks for it
    } else if (const auto it = identities_.find(name); it != identities_.end()) {
      it->second->retry_ns = 0;
      if (it->second->known == Known::kYes) fetch_identity(name, *it->second);
      else resume_all(it->second->waiting);
    }
  }
}

void Directory::changed_members(const redis::Reply& members) {
  for (const auto& member : members.elements) {
    if (member.text.size() < 2) continue;
    const std::string name = member.text.substr(1);
    switch (member.text[0]) {
      case 'P':
        if (name == policy_id_) fetch_policy();
        break;
      case 'T':
        if (const auto it = tenants_.find(name); it != tenants_.end()) fetch_tenant(*it->second);
        break;
      case 'I':
        if (const auto it = identities_.find(name); it != identities_.end()) fetch_identity(name, *it->second);
        break;
      default: break;
    }
  }
}

void Directory::fetch_policy() {
  if (fetching_policy_) return ask_again("P");
  fetching_policy_ = true;
  auto found = std::make_shared<Result<redis::Reply>>(fail(Errc::kUnavailable, ""));
  redis_.call({"GET", rc::policy_key(policy_id_)}, [found](Result<redis::Reply> reply) { *found = std::move(reply); });
  redis_.call({"HGET", rc::meta_key(), "generation"}, [this, alive = alive_, found](Result<redis::Reply> meta) {
    if (!*alive) return;
    fetching_policy_ = false;
    auto& reply = *found;
    const bool told = reply && (reply->is_text() || (reply->is_nil() && meta && meta->is_text()));
    if (!told) return ask_again("P");
    if (reply->is_nil()) {
      if (has_policy_) fault_("the policy " + policy_id_ + " was deleted");
      has_policy_ = false;
      return;
    }
    auto policy = tenant::policy_from_json(reply->text);
    if (!policy) return fault_("cannot read the policy " + policy_id_ + ": " + policy.error().message);
    if (has_policy_ && *policy == policy_) return;
    policy_ = std::move(*policy);
    has_policy_ = true;
    ++policy_serial_;
    policy_changed_();
  });
}

TenantEntry& Directory::tenant(const std::string& id) {
  auto& entry = tenants_[id];
  if (!entry) {
    entry = std::make_unique<TenantEntry>();
    entry->id = id;
  }
  return *entry;
}

IdentityEntry* Directory::identity(bool api_key, std::string_view credential) {
  auto& recent = recent_[api_key ? 0 : 1];
  if (const auto it = recent.find(credential); it != recent.end() && it->second->known == Known::kYes &&
                                               it->second->tenant->fetched) [[likely]] {
    return it->second;
  }
  IdentityEntry* entry =
      by_name(api_key ? "apikey:" + sha256_hex(credential) : "external:" + std::string(credential));
  if (entry != nullptr && entry->known == Known::kYes) recent.emplace(credential, entry);
  return entry;
}

IdentityEntry* Directory::by_name(std::string name) {
  auto it = identities_.find(name);
  if (it == identities_.end()) {
    if (unknown_ >= kMaxUnknown) drop_unknown();
    if (unknown_ >= kMaxUnknown) return nullptr;
    it = identities_.emplace(std::move(name), std::make_unique<IdentityEntry>()).first;
    ++unknown_;
  }
  look_up(it->first, *it->second);
  return it->second.get();
}

void Directory::look_up(const std::string& name, IdentityEntry& entry) {
  const int64_t now_ns = loop_.now_ns();
  const bool stale = entry.known == Known::kNo && now_ns - entry.fetched_ns > kUnknownForNs;
  if ((entry.known == Known::kPending || stale) && entry.fetching == 0 && now_ns >= entry.retry_ns) {
    fetch_identity(name, entry);
  }
  if (entry.known != Known::kYes) return;
  TenantEntry& tenant = *entry.tenant;
  if (!tenant.fetched && !tenant.fetching && now_ns >= tenant.retry_ns) fetch_tenant(tenant);
}

// A flood of made-up credentials must not grow without bound; those that somebody waits for stay.
void Directory::drop_unknown() {
  if (dropped_ns_ != 0 && loop_.now_ns() - dropped_ns_ < kDropEveryNs) return;  // it walks through all of them
  dropped_ns_ = loop_.now_ns();
  for (auto& recent : recent_) recent.clear();
  std::erase_if(identities_, [this](const auto& item) {
    const IdentityEntry& entry = *item.second;
    const bool drop = entry.known != Known::kYes && entry.fetching == 0 && entry.waiting.empty();
    if (drop) --unknown_;
    return drop;
  });
}

void Directory::fetch_identity(const std::string& key, IdentityEntry& entry) {
  ++entry.fetching;
  const size_t colon = key.find(':');
  auto found = std::make_shared<Result<redis::Reply>>(fail(Errc::kUnavailable, ""));
  redis_.call({"GET", rc::identity_key(key.substr(0, colon), key.substr(colon + 1))},
              [found](Result<redis::Reply> reply) { *found = std::move(reply); });
  // Asked after the name: a name that is missing while the publication stands belongs to nobody.
  redis_.call({"HGET", rc::meta_key(), "generation"}, [this, alive = alive_, found, &entry, key](Result<redis::Reply> meta) {
    if (!*alive) return;
    --entry.fetching;
    const auto& reply = *found;
    if (reply && reply->is_text()) {
      if (entry.known != Known::kYes && unknown_ > 0) --unknown_;
      entry.known = Known::kYes;
      entry.tenant = &tenant(reply->text);
      if (!entry.tenant->fetched && !entry.tenant->fetching) fetch_tenant(*entry.tenant);
    } else if (reply && reply->is_nil() && meta && meta->is_text()) {
      if (entry.known == Known::kYes) ++unknown_;
      entry.known = Known::kNo;
      entry.tenant = nullptr;
      entry.fetched_ns = loop_.now_ns();
    } else {
      entry.retry_ns = loop_.now_ns() + kRetryMs * 1'000'000;
      if (entry.fetching == 0) ask_again("I" + key);
      return;
    }
    resume_all(entry.waiting);
  });
}

void Directory::fetch_tenant(TenantEntry& entry) {
  entry.fetching = true;
  auto found = std::make_shared<Result<redis::Reply>>(fail(Errc::kUnavailable, ""));
  redis_.call({"GET", rc::tenant_key(entry.id)}, [found](Result<redis::Reply> reply) { *found = std::move(reply); });
  redis_.call({"HGET", rc::meta_key(), "generation"}, [this, alive = alive_, found, &entry](Result<redis::Reply> meta) {
    if (!*alive) return;
    entry.fetching = false;
    const auto& reply = *found;
    if (reply && reply->is_text()) {
      auto doc = tenant::tenant_from_json(reply->text);
      if (!doc) {
        fault_("cannot read the tenant " + entry.id + ": " + doc.error().message);
        entry.retry_ns = loop_.now_ns() + 1'000'000'000;
        return;  // whoever waits for it goes on waiting
      } else if (!entry.exists || !(*doc == entry.doc)) {
        renew(entry, std::move(*doc));
      }
    } else if (reply && reply->is_nil() && meta && meta->is_text()) {
      entry.fetched = true;
      entry.exists = false;
      entry.serial = ++serials_;
      tenant_changed_(entry);
    } else {
      entry.retry_ns = loop_.now_ns() + kRetryMs * 1'000'000;
      return ask_again("T" + entry.id);
    }
    resume_all(entry.waiting);
  });
}

void Directory::resume_all(std::vector<uint64_t>& tickets) {
  std::vector<uint64_t> batch;
  batch.swap(tickets);
  for (const uint64_t ticket : batch) resume_(ticket);
}

}  // namespace tallygate::sidecar
