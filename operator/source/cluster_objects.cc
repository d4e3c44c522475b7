#include "operator/source/cluster_objects.h"

#include <algorithm>

#include "operator/source/secret_keys.h"

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
  return read(key, object) || was_going;
}

// True where what is shown of it differs.
bool ClusterObjects::read(const std::string& key, const kube::Object& object) {
  Entry entry{object.uid, object.generation, nullptr, std::nullopt};
  if (names_secrets(object.json)) entry.object = object;
  const auto find = [&](const std::string& secret) {
    const auto found = secrets_.find({object.name.name_space, secret});
    return found == secrets_.end() ? nullptr : &found->second;
  };
  auto content =
      manifest::read_manifest(key, entry.object ? with_secret_keys(object.json, find) : object.json, manifest::Syntax::kJson);
  content.generation = object.generation;
  Entry& shown = shown_[key];
  if (shown.content && shown.uid == entry.uid && shown.generation == entry.generation && same(*shown.content, content)) return false;
  entry.content = std::make_shared<const manifest::FileContent>(std::move(content));
  shown = std::move(entry);
  return true;
}

bool ClusterObjects::set_secret(const kube::Object& secret) {
  auto hashes = kept_hashes(secret);
  const auto [known, added] = secrets_.try_emplace(secret.name);
  if (!added && known->second == hashes) return false;
  known->second = std::move(hashes);
  return read_again(secret.name.name_space);
}

bool ClusterObjects::remove_secret(const kube::ObjectName& name) {
  return secrets_.erase(name) > 0 && read_again(name.name_space);
}

bool ClusterObjects::read_again(const std::string& name_space) {
  bool changed = false;
  for (const auto& [key, entry] : shown_) {
    if (entry.object && entry.object->name.name_space == name_space) changed |= read(key, kube::Object(*entry.object));
  }
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
