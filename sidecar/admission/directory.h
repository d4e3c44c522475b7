// What the operator published, as far as this sidecar needs it: its policy, the tenants that called, who is who.
//
// Fetched on first use and kept; changes come by notice and, since notices may be lost, by asking once a second. A
// credential that is not found is refused only when the publication is known to be complete: a wiped Redis says
// "not known yet", never "nobody" (three-valued: known, unknown, pending).
//
// Where there are keys (trust.h), only what the operator signed goes in force: under the name that was asked for, and no
// earlier edition of it than is known. What is refused is asked for again each second, and changes nothing meanwhile.
//
// Threading: the event loop's thread only.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/io/event_loop.h"
#include "core/rate_limiter.h"
#include "core/redis_client/connection.h"
#include "core/tenant/model.h"
#include "sidecar/admission/published.h"
#include "sidecar/admission/trust.h"

struct sockaddr;

namespace tallygate::sidecar {

struct Plan;

// A tenant as seen from here. Its address is stable while the process lives.
struct TenantEntry {
  std::string id;
  bool fetched = false;          // an answer has come
  bool exists = false;
  bool fetching = false;
  int64_t retry_ns = 0;          // not to be asked for before: the last answer told nothing
  int64_t confirmed_ns = 0;      // when the ledger last said that the document is this one; 0: never
  uint64_t serial = 0;           // grows with every new document: cached plans of older ones are void
  tenant::Tenant doc;
  redis_contract::Edition edition;  // of what Redis last told
  std::vector<Plan*> plans;      // by route index; owned by Admission
  std::vector<uint64_t> waiting; // tickets
};

enum class Known : uint8_t { kPending, kYes, kNo };

struct IdentityEntry {
  Known known = Known::kPending;
  int fetching = 0;       // how many answers are due: the entry stays as long
  int64_t retry_ns = 0;   // as above
  int64_t fetched_ns = 0;
  TenantEntry* tenant = nullptr;
  redis_contract::Edition edition;  // no earlier one is believed
  std::vector<uint64_t> waiting;
};

class Directory {
 public:
  // `policy` is NAMESPACE/NAME. `notices` is a second connection, for the subscription. All that is referred to outlives it.
  // `pepper`: API keys are looked up under their peppered hash first; empty: there is none.
  Directory(EventLoop& loop, redis::Connection& redis, redis::Connection& notices, Trust& trust, std::string policy,
            std::string pepper = "");
  ~Directory();
  void start();
  // Asks for changes now, not at the next turn of the clock.
  void refresh();

  // Null until published.
  const tenant::Policy* policy() const { return has_policy_ ? &policy_ : nullptr; }
  uint64_t policy_serial() const { return policy_serial_; }

  // The entry of a credential: an API key itself, or an external id. Starts a fetch where needed. Keys of tenants that
  // are known are remembered, so that they are not hashed again. Null: too many that nobody knows are being asked for, by all
  // or from `peer`'s address (null: no address).
  IdentityEntry* identity(bool api_key, std::string_view credential, const sockaddr* peer = nullptr);

  // Nanoseconds since the operator's publication was last seen, or the ledger confirmed the tenant; large before.
  int64_t age_ns(const TenantEntry& tenant) const;
  // The version of a tenant's document that is known here; 0: none.
  int64_t version_of(const std::string& tenant) const;
  // The ledger's word, while Redis is away: whether the tenant is suspended (or deleted), and its document; empty: the one
  // that is known here.
  void confirm(const std::string& tenant, bool suspended, const std::string& document);
  size_t tenants() const { return tenants_.size(); }
  size_t identities() const { return identities_.size(); }

  // Tickets to resume: a credential or tenant became known.
  void on_resume(std::function<void(uint64_t)> fn) { resume_ = std::move(fn); }
  void on_tenant_changed(std::function<void(TenantEntry&)> fn) { tenant_changed_ = std::move(fn); }
  void on_policy_changed(std::function<void()> fn) { policy_changed_ = std::move(fn); }
  void on_fault(std::function<void(const std::string&)> fn) { fault_ = std::move(fn); }

 private:
  void refused(std::string member);
  void poll();
  void take_head(const redis::Reply& head);
  void take_identity(const std::string& key, IdentityEntry& entry, const Told& told, int64_t asked_version);
  void take_tenant(TenantEntry& entry, const Told& told, int64_t asked_version);
  void gone(redis_contract::Edition* edition, int64_t asked_version) const;
  void changed_members(const redis::Reply& members);
  void changed_everything();
  void ask_again(std::string member);
  void retry();
  void fetch_policy();
  void fetch_identity(const std::string& key, IdentityEntry& entry);
  void fetch_tenant(TenantEntry& entry);
  void renew(TenantEntry& entry, tenant::Tenant doc);
  TenantEntry& tenant(const std::string& id);
  void resume_all(std::vector<uint64_t>& tickets);
  void drop_unknown();
  IdentityEntry* by_name(std::string name, const sockaddr* peer);
  IdentityEntry* by_key(std::string_view key, const sockaddr* peer);
  void look_up(const std::string& name, IdentityEntry& entry);

  EventLoop& loop_;
  redis::Connection& redis_;
  redis::Connection& notices_;
  Trust& trust_;
  Published published_;
  std::string policy_id_, pepper_;
  bool has_policy_ = false;
  tenant::Policy policy_;
  uint64_t policy_serial_ = 0;
  redis_contract::Edition policy_edition_, head_edition_;
  uint64_t serials_ = 0;
  std::unordered_map<std::string, std::unique_ptr<IdentityEntry>> identities_;  // by "kind:value"
  struct TextHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  // What callers send → entries of `identities_` that are known: one table for keys, one for external ids.
  std::unordered_map<std::string, IdentityEntry*, TextHash, std::equal_to<>> recent_[2];
  size_t unknown_ = 0;
  RateLimiter strangers_;  // new credentials, by address
  int64_t dropped_ns_ = 0;
  std::vector<std::string> again_;  // members, as in the change index, whose fetch told nothing
  std::set<std::string> refused_;  // such members, of which something came that is not believed
  int64_t refused_ns_ = 0;         // when they were last asked for again
  bool fetching_policy_ = false;
  std::unordered_map<std::string, std::unique_ptr<TenantEntry>> tenants_;
  std::string generation_;
  int64_t version_ = 0;
  int64_t seen_ns_ = 0;
  bool polling_ = false;
  EventLoop::TimerId timer_ = 0, retry_timer_ = 0;
  std::function<void(uint64_t)> resume_ = [](uint64_t) {};
  std::function<void(TenantEntry&)> tenant_changed_ = [](TenantEntry&) {};
  std::function<void()> policy_changed_ = [] {};
  std::function<void(const std::string&)> fault_ = [](const std::string&) {};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace tallygate::sidecar
