#include "operator/source/cluster_objects.h"

#include <algorithm>

namespace tallygate::source {
namespace {

bool same(const manifest::FileContent& a, const manifest::FileContent& b) {
  return a.objects == b.objects && a.faults == b.faults && a.warnings == b.warnings;
}

}  // namespace

bool ClusterObjects::set(const std::string& kind, const kube::Object& object, int64_t now_ms) {
  const std::string key = kind + " " + object.name.str();
  if (object.deleting) return goes(key, now_ms);
  const bool was_going = going_.erase(key) > 0;
  auto content = std::make_shared<const manifest::FileContent>(
      manifest::read_manifest(key, object.json, manifest::Syntax::kJson));
  Entry& entry = shown_[key];
  const bool changed = !entry.content || was_going || entry.uid != object.uid || entry.generation != object.generation ||
                       !same(*entry.content, *content);
  if (changed) entry = {object.uid, object.generation, std::move(content)};
  return changed;
}

bool ClusterObjects::remove(const std::string& kind, const kube::ObjectName& name, int64_t now_ms) {
  return goes(kind + " " + name.str(), now_ms);
}

bool ClusterObjects::goes(const std::string& key, int64_t now_ms) {
  if (!shown_.contains(key)) return false;
  if (going_.empty()) first_gone_ms_ = now_ms;
  if (!going_.insert(key).second) return false;
  last_gone_ms_ = now_ms;
  return true;
}

int64_t ClusterObjects::settles_at_ms() const {
  if (going_.empty()) return 0;
  return std::min(last_gone_ms_ + kSettle_ms, first_gone_ms_ + kSettleMax_ms);
}

manifest::Files ClusterObjects::files(int64_t now_ms) {
  if (!going_.empty() && now_ms >= settles_at_ms()) {
    for (const auto& key : going_) shown_.erase(key);
    going_.clear();
  }
  manifest::Files files;
  files.reserve(shown_.size());
  for (const auto& [key, entry] : shown_) files.push_back(entry.content);
  return files;
}

}  // namespace tallygate::source
