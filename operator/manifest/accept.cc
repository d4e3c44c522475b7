#include "operator/manifest/accept.h"

#include <algorithm>
#include <set>

#include "operator/manifest/references.h"

namespace tallygate::manifest {
namespace {

using ObjectMap = std::map<std::string, const Object*>;

// Every object of `resources` under its key, with the file it came from.
std::map<std::string, Object> by_key(const Resources& resources) {
  std::map<std::string, Object> objects;
  for (const auto& [name, plan] : resources.plans) objects.emplace(key_of(plan), plan);
  for (const auto& [id, tenant] : resources.tenants) objects.emplace(key_of(tenant), tenant);
  for (const auto& [id, policy] : resources.policies) objects.emplace(key_of(policy), policy);
  return objects;
}

Resources collect(const ObjectMap& objects) {
  Resources resources;
  for (const auto& [key, object] : objects) insert(&resources, *object);
  return resources;
}

// One run of accept(): files are turned back to what was accepted of them, or single newcomers are left out, until
// nothing that is left is at fault. Each round turns back or leaves out at least one, so it ends.
class Run {
 public:
  Run(const Resources& previous, const Files& files)
      : previous_(previous), before_(by_key(previous)) {
    for (const auto& [key, object] : before_) before_by_file_[metadata_of(object).place.file].push_back(key);
    for (const auto& file : files) {
      files_.push_back(file.get());
      for (const Fault& fault : file->faults) faults_.insert(fault);
      if (!file->faults.empty()) turn_back(file->file);
    }
    std::sort(files_.begin(), files_.end(), [](const auto* a, const auto* b) { return a->file < b->file; });
  }

  Accepted finish() {
    ObjectMap chosen;
    do chosen = choose();
    while (!settle(&chosen));
    Accepted accepted;
    accepted.resources = collect(chosen);
    accepted.faults.assign(faults_.begin(), faults_.end());
    add_warnings(&accepted);
    return accepted;
  }

 private:
  bool was_accepted(const std::string& file) const { return before_by_file_.count(file) != 0; }
  // The file's objects as they were accepted; nothing where none were.
  void turn_back(const std::string& file) {
    if (was_accepted(file)) turned_back_.insert(file);
  }
  void reject(const std::string& key, const Object& object) {
    const std::string& file = metadata_of(object).place.file;
    if (was_accepted(file) && turned_back_.count(file) == 0) {
      turned_back_.insert(file);
    } else {
      left_out_.insert(key + "\n" + file);
    }
  }

  // The objects of all files, each name once: who had the name keeps it.
  ObjectMap choose() {
    ObjectMap chosen;
    for (const auto& file : turned_back_) {
      for (const auto& key : before_by_file_[file]) chosen[key] = &before_.at(key);
    }
    for (const FileContent* file : files_) {
      if (turned_back_.count(file->file) != 0) continue;
      for (const Object& object : file->objects) {
        const std::string key = object_key(object);
        if (left_out_.count(key + "\n" + file->file) != 0) continue;
        const auto [first, inserted] = chosen.emplace(key, &object);
        if (!inserted) clash(key, first->second, object);
      }
    }
    for (const auto& key : kept_) chosen.emplace(key, &before_.at(key));
    return chosen;
  }

  void clash(const std::string& key, const Object*& first, const Object& second) {
    const auto before = before_.find(key);
    const Object* loser = &second;
    const bool second_held = before != before_.end() && turned_back_.count(metadata_of(*first).place.file) == 0 &&
                             metadata_of(before->second).place.file == metadata_of(second).place.file &&
                             metadata_of(before->second).place.file != metadata_of(*first).place.file;
    if (second_held) {
      loser = first;
      first = &second;
    }
    const Place& kept = metadata_of(*first).place;
    const Place& other = metadata_of(*loser).place;
    faults_.insert({other.file, other.line, key, "metadata.name", Reason::kDuplicate,
                    key + " is also at " + kept.file + ":" + std::to_string(kept.line), "remove one of the two"});
    clashed_.push_back({key, loser});
  }

  // Applies the rules between objects. True if nothing had to be turned back or left out.
  bool settle(ObjectMap* chosen) {
    bool settled = true;
    for (const auto& [key, loser] : clashed_) {
      if (left_out_.count(key + "\n" + metadata_of(*loser).place.file) != 0) continue;
      reject(key, *loser);
      settled = false;
    }
    clashed_.clear();
    if (!settled) return false;
    keep_plans_in_use(chosen);
    for (const auto& [key, object] : *chosen) {
      const auto* plan = std::get_if<BillingPlan>(object);
      Faults faults;
      if (plan == nullptr || check_immutable(*plan, previous_, &faults)) continue;
      settled = false;
      faults_.insert(faults.begin(), faults.end());
      kept_.insert(key);
      reject(key, *object);
    }
    if (!settled) return false;
    for (auto& [key, faults] : check_references(collect(*chosen), previous_)) {
      faults_.insert(faults.begin(), faults.end());
      const Object& object = *chosen->at(key);
      if (is_unchanged(key, object)) continue;
      settled = false;
      reject(key, object);
    }
    return settled;
  }

  bool is_unchanged(const std::string& key, const Object& object) const {
    const auto before = before_.find(key);
    return before != before_.end() && before->second == object;
  }

  // A plan that was removed, or whose new version is left out, stays while an accepted tenant is on it.
  void keep_plans_in_use(ObjectMap* chosen) {
    for (const auto& [key, object] : ObjectMap(*chosen)) {
      const auto* tenant = std::get_if<BillingTenant>(object);
      if (tenant == nullptr) continue;
      const std::string plan_key = "BillingPlan " + tenant->plan.value.str();
      const auto before = before_.find(plan_key);
      if (before == before_.end() || !chosen->emplace(plan_key, &before->second).second) continue;
      faults_.insert({tenant->plan.place.file, tenant->plan.place.line, key, "spec.planRef.name", Reason::kNotFound,
                      plan_key + " was removed, and is still in use: its last accepted version stays in force",
                      "restore the plan, or move its tenants to another first"});
    }
  }

  void add_warnings(Accepted* accepted) {
    std::map<std::string, std::pair<Fault, int>> features;
    for (const FileContent* file : files_) {
      for (const Fault& warning : file->warnings) {
        const auto found = features.emplace(warning.message, std::pair{warning, 0}).first;
        ++found->second.second;
      }
    }
    for (auto& [message, first] : features) {
      if (first.second > 1) first.first.message += "; " + std::to_string(first.second) + " places, this is the first";
      accepted->warnings.push_back(std::move(first.first));
    }
  }

  const Resources& previous_;
  const std::map<std::string, Object> before_;
  std::map<std::string, std::vector<std::string>> before_by_file_;
  std::vector<const FileContent*> files_;
  std::set<std::string> turned_back_;  // files
  std::set<std::string> left_out_;     // "key\nfile"
  std::set<std::string> kept_;         // keys of plans whose changed prices were refused
  std::vector<std::pair<std::string, const Object*>> clashed_;
  std::set<Fault> faults_;
};

}  // namespace

Accepted accept(const Resources& previous, const Files& files) { return Run(previous, files).finish(); }

Accepted accept(const Resources& previous, std::vector<FileContent> files) {
  Files shared;
  for (FileContent& file : files) shared.push_back(std::make_shared<const FileContent>(std::move(file)));
  return accept(previous, shared);
}

}  // namespace tallygate::manifest
