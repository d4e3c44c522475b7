// The data folder of a sidecar: locked against a second process, nobody else's, one folder inside per incarnation.
#pragma once

#include <string>
#include <vector>

#include "core/result.h"

namespace tallygate::sidecar {

class DataFolder {
 public:
  DataFolder() = default;
  ~DataFolder();
  DataFolder(const DataFolder&) = delete;

  // Makes it if needed and locks it. kConflict: another process has it. kInvalid: somebody else owns it, may write it,
  // or has put a link into it: what stands in it would be booked and returned in our name.
  Result<void> open(const std::string& path);
  // kConflict: the name does not lead to this folder any more, or its lock is gone.
  Result<void> check() const;
  std::string incarnation_folder(const std::string& incarnation) const { return path_ + "/inc-" + incarnation; }
  // Folders of incarnations, oldest first.
  std::vector<std::string> incarnations() const;
  // Takes an incarnation's folder out of the way, for people to look at: nobody of ours touches it again.
  static void set_aside(const std::string& folder);
  // Folders that were set aside.
  std::vector<std::string> aside() const;
  // Takes the records of a finished incarnation aside, for a while (kept.h); what else is in its folder goes.
  static void keep(const std::string& folder);
  // Folders taken aside.
  std::vector<std::string> kept() const;
  // The name of the one that a folder of these is of.
  static std::string incarnation_of(const std::string& folder);
  const std::string& path() const { return path_; }
  // Deletes an incarnation's folder and what is in it.
  static void remove(const std::string& folder);

 private:
  std::string path_;
  int fd_ = -1, lock_fd_ = -1;
};

}  // namespace tallygate::sidecar
