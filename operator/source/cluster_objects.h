// The plans, tenants and policies that an API server has → the files of a look. Pure.
//
// Each object is read once a version. What changes nothing that is declared (our own status, somebody's field manager)
// is no change. What goes, goes together, once nothing has gone for a while: a cluster that loses everything loses it one
// by one, and Acceptance must see how much it is. What is being deleted is gone already, whoever still holds it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "operator/kube/object.h"
#include "operator/manifest/read.h"

namespace tallygate::source {

class ClusterObjects {
 public:
  static constexpr int64_t kSettle_ms = 1'000;       // since something went last
  static constexpr int64_t kSettleMax_ms = 10'000;   // since something went first

  // `kind`: "BillingTenant" and so on. True where a look would differ now, or once things have settled.
  bool set(const std::string& kind, const kube::Object& object, int64_t now_ms);
  bool remove(const std::string& kind, const kube::ObjectName& name, int64_t now_ms);

  // Secrets, as keep_hashes_only() leaves them. True where a tenant that names one differs now.
  bool set_secret(const kube::Object& secret);
  bool remove_secret(const kube::ObjectName& name);

  // Lets go what has settled.
  manifest::Files files(int64_t now_ms);
  // When files() will differ by itself; 0: it will not.
  int64_t settles_at_ms() const;

 private:
  struct Entry {
    std::string uid;
    int64_t generation = 0;
    std::shared_ptr<const manifest::FileContent> content;
    std::optional<kube::Object> object;  // of a tenant that names Secrets
  };
  bool read(const std::string& key, const kube::Object& object);
  bool read_again(const std::string& name_space);
  bool goes(const std::string& key, int64_t now_ms);

  std::map<std::string, Entry> shown_;
  std::set<std::string> going_;  // of those shown
  std::map<kube::ObjectName, std::vector<std::string>> secrets_;
  int64_t first_gone_ms_ = 0, last_gone_ms_ = 0;
};

}  // namespace tallygate::source
