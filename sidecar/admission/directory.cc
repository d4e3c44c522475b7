#include "sidecar/admission/directory.h"

#include <netinet/in.h>

#include <algorithm>
#include <utility>

#include "core/api_key.h"
#include "core/redis_contract/keys.h"
#include "core/telemetry/log.h"
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
constexpr int64_t kRefusedRetryNs = 1'000'000'000;
// Of credentials that were not seen before, from one address (IPv6: /64): each costs a hash and a command of the shared Redis.
constexpr RateLimit kStrangers = {1'000, 2'000};
constexpr size_t kAddressesMax = 4'096;

// Of fewer characters than this all are tried out in days by whoever knows the hash.
constexpr size_t kShortKey = 16;

void warn_of_short_key(const TenantEntry& tenant) {
  static log::Throttle throttle(600);
  log::warn(throttle, "an API key is so short that it can be guessed from its hash",
            {{"tenant", tenant.id}, {"fix", "give its client one of `tallygate-operator key new`"}});
}

// What of an address is one client's.
std::string_view origin_of(const sockaddr* peer) {
  if (peer->sa_family == AF_INET) {
    return {reinterpret_cast<const char*>(&reinterpret_cast<const sockaddr_in*>(peer)->sin_addr), 4};
  }
  if (peer->sa_family != AF_INET6) return {};
  const in6_addr& address = reinterpret_cast<const sockaddr_in6*>(peer)->sin6_addr;
  const char* bytes = reinterpret_cast<const char*>(&address);
  return IN6_IS_ADDR_V4MAPPED(&address) ? std::string_view(bytes + 12, 4) : std::string_view(bytes, 8);
}

}  // namespace

Directory::Directory(EventLoop& loop, redis::Connection& redis, redis::Connection& notices, Trust& trust,
                     std::string policy, std::string pepper)
    : loop_(loop), redis_(redis), notices_(notices), trust_(trust), published_(loop, redis, trust.verifies()),
      policy_id_(std::move(policy)), pepper_(std::move(pepper)), strangers_(kStrangers, kAddressesMax) {}

Directory::~Directory() {
  *alive_ = false;
  loop_.cancel(timer_);
  loop_.cancel(retry_timer_);
}

void Directory::start() {
  notices_.subscribe({rc::publish_channel()}, [this](const std::string&, const std::string&) { refresh(); });
  notices_.start();
  trust_.on_change([this] {
    generation_.clear();  // what was refused may be believed now: everything is looked at again
    refresh();
  });
  trust_.start();
  refresh();
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
  if (!refused_.empty() && loop_.now_ns() - refused_ns_ > kRefusedRetryNs) {
    refused_ns_ = loop_.now_ns();
    for (const auto& member : std::exchange(refused_, {})) ask_again(member);
  }
  polling_ = true;
  redis_.call({"HMGET", rc::meta_key(), "generation", "version", "sig"},
              [this, alive = alive_](Result<redis::Reply> reply) {
                if (!*alive) return;
                polling_ = false;
                if (reply && reply->is_array() && reply->elements.size() == 3 && reply->elements[0].is_text()) {
                  take_head(*reply);
                }
              });
}

void Directory::take_head(const redis::Reply& head) {
  seen_ns_ = loop_.now_ns();
  const std::string& generation = head.elements[0].text;
  const int64_t version = head.elements[1].to_integer();
  if (generation == generation_ && version == version_ && has_policy_) return;
  const std::string document = rc::head_document(generation, version);
  if (!trust_.believes(rc::kHeadName, document, head.elements[2].text, &head_edition_)) return;
  const bool anew = generation != generation_;
  const int64_t since = version_;
  generation_ = generation;
  version_ = version;
  // Of another generation everything may have changed; what is gone is in no list of changes.
  if (anew) return changed_everything();
  if (!has_policy_) fetch_policy();
  redis_.call({"ZRANGEBYSCORE", rc::changes_key(), "(" + std::to_string(since), "+inf"},
              [this, alive = alive_](Result<redis::Reply> members) {
                if (!*alive) return;
                if (members && members->is_array()) changed_members(*members);
                else version_ = 0;  // asked again at the next poll
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

// It was gone as of that publication: what was signed up to then does not come back.
void Directory::gone(rc::Edition* edition, int64_t asked_version) const {
  *edition = std::max(*edition, rc::Edition{head_edition_.ledger, asked_version + 1});
}

void Directory::refused(std::string member) { refused_.insert(std::move(member)); }

void Directory::fetch_policy() {
  if (fetching_policy_) return ask_again("P");
  fetching_policy_ = true;
  published_.ask(rc::policy_key(policy_id_), [this, version = version_](Told told) {
    fetching_policy_ = false;
    if (told.kind == Told::Kind::kNothing) return ask_again("P");
    if (told.kind == Told::Kind::kAbsent) {
      if (has_policy_) fault_("the policy " + policy_id_ + " was deleted");
      has_policy_ = false;
      gone(&policy_edition_, version);
      return;
    }
    if (!trust_.believes("P" + policy_id_, told.text, told.signature, &policy_edition_)) return refused("P");
    auto policy = tenant::policy_from_json(told.text);
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

IdentityEntry* Directory::identity(bool api_key, std::string_view credential, const sockaddr* peer) {
  auto& recent = recent_[api_key ? 0 : 1];
  if (const auto it = recent.find(credential); it != recent.end() && it->second->known == Known::kYes &&
                                               it->second->tenant->fetched) [[likely]] {
    return it->second;
  }
  IdentityEntry* entry =
      api_key ? by_key(credential, peer) : by_name("external:" + std::string(credential), peer);
  if (entry != nullptr && entry->known == Known::kYes) {
    recent.emplace(credential, entry);
    if (api_key && credential.size() < kShortKey) warn_of_short_key(*entry->tenant);
  }
  return entry;
}

// Not under its peppered hash: an operator without the pepper, or that publishes both, has it under the plain one.
IdentityEntry* Directory::by_key(std::string_view key, const sockaddr* peer) {
  const std::string hash = sha256_hex(key);
  const auto named = [](const char* kind, const std::string& value) { return std::string(kind) + ':' + value; };
  if (!pepper_.empty()) {
    IdentityEntry* entry = by_name(named(kPepperedKey, peppered_hash(pepper_, hash)), peer);
    if (entry == nullptr || entry->known != Known::kNo) return entry;
  }
  return by_name(named(kPlainKey, hash), peer);
}

IdentityEntry* Directory::by_name(std::string name, const sockaddr* peer) {
  auto it = identities_.find(name);
  if (it == identities_.end()) {
    if (unknown_ >= kMaxUnknown) drop_unknown();
    if (unknown_ >= kMaxUnknown) return nullptr;
    if (peer != nullptr && strangers_.take(origin_of(peer), loop_.now_ns()) != 0) return nullptr;
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
  published_.ask(rc::identity_key(key.substr(0, colon), key.substr(colon + 1)),
                 [this, &entry, key, version = version_](Told told) { take_identity(key, entry, told, version); });
}

void Directory::take_identity(const std::string& key, IdentityEntry& entry, const Told& told, int64_t asked_version) {
  --entry.fetching;
  if (told.kind == Told::Kind::kText) {
    // Whom it names already is nothing new, by whichever edition: after a wipe there may be thousands.
    const bool news = entry.known != Known::kYes || entry.tenant->id != told.text;
    if (news && !trust_.believes("I" + key, told.text, told.signature, &entry.edition)) {
      entry.retry_ns = loop_.now_ns() + kRefusedRetryNs;
      return refused("I" + key);  // whoever waits for it goes on waiting
    }
    if (entry.known != Known::kYes && unknown_ > 0) --unknown_;
    entry.known = Known::kYes;
    entry.tenant = &tenant(told.text);
    if (!entry.tenant->fetched && !entry.tenant->fetching) fetch_tenant(*entry.tenant);
  } else if (told.kind == Told::Kind::kAbsent) {
    if (entry.known == Known::kYes) ++unknown_;
    entry.known = Known::kNo;
    entry.tenant = nullptr;
    entry.fetched_ns = loop_.now_ns();
    gone(&entry.edition, asked_version);
  } else {
    entry.retry_ns = loop_.now_ns() + kRetryMs * 1'000'000;
    if (entry.fetching == 0) ask_again("I" + key);
    return;
  }
  resume_all(entry.waiting);
}

void Directory::fetch_tenant(TenantEntry& entry) {
  entry.fetching = true;
  published_.ask(rc::tenant_key(entry.id), [this, &entry, version = version_](Told told) {
    entry.fetching = false;
    take_tenant(entry, told, version);
  });
}

void Directory::take_tenant(TenantEntry& entry, const Told& told, int64_t asked_version) {
  if (told.kind == Told::Kind::kNothing) {
    entry.retry_ns = loop_.now_ns() + kRetryMs * 1'000'000;
    return ask_again("T" + entry.id);
  }
  if (told.kind == Told::Kind::kAbsent) {
    entry.fetched = true;
    entry.exists = false;
    entry.serial = ++serials_;
    gone(&entry.edition, asked_version);
    tenant_changed_(entry);
    return resume_all(entry.waiting);
  }
  auto doc = tenant::tenant_from_json(told.text);
  const bool news = !doc || !entry.exists || !(*doc == entry.doc);
  if (news && !trust_.believes("T" + entry.id, told.text, told.signature, &entry.edition)) {
    entry.retry_ns = loop_.now_ns() + kRefusedRetryNs;
    return refused("T" + entry.id);  // whoever waits for it goes on waiting
  }
  if (!doc) {
    fault_("cannot read the tenant " + entry.id + ": " + doc.error().message);
    entry.retry_ns = loop_.now_ns() + kRefusedRetryNs;
    return;
  }
  if (news) renew(entry, std::move(*doc));
  resume_all(entry.waiting);
}

void Directory::resume_all(std::vector<uint64_t>& tickets) {
  std::vector<uint64_t> batch;
  batch.swap(tickets);
  for (const uint64_t ticket : batch) resume_(ticket);
}

}  // namespace tallygate::sidecar
