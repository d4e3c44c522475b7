// The files of a manifest folder, read and parsed, with what has not changed taken from the last time. Private to
// folder_source.cc.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "operator/manifest/read.h"

namespace tallygate::source {

inline constexpr size_t kMaxFiles = 20'000;

// *.yaml, *.yml and *.json, in whatever case, neither hidden nor an editor's.
bool is_manifest_name(const std::string& name);

class Folder {
 public:
  // What tells one version of a file from another without reading it.
  struct Signature {
    uint64_t device = 0, inode = 0;
    int64_t size = 0, modified_ns = 0, changed_ns = 0;
    auto operator<=>(const Signature&) const = default;
  };
  using Listing = std::map<std::string, Signature>;  // by file name

  explicit Folder(std::string path) : path_(std::move(path)) {}

  // The manifests in the folder now; false where it cannot be listed. `not_read`: what else lies there, folders too.
  bool list(Listing* listing, std::string* error, std::set<std::string>* not_read = nullptr) const;

  // Reads what is new, changed, or named in `dirty`; leaves alone what is named in `being_written` and was read before.
  void update(const Listing& listing, const std::set<std::string>& dirty, const std::set<std::string>& being_written);

  // Of the last update.
  manifest::Files contents() const;
  const Listing& loaded() const { return loaded_; }
  const std::string& path() const { return path_; }

 private:
  manifest::FileContent read(const std::string& name) const;

  std::string path_;
  Listing loaded_;
  std::map<std::string, std::shared_ptr<const manifest::FileContent>> contents_;
};

}  // namespace tallygate::source
