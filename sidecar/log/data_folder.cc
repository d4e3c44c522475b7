#include "sidecar/log/data_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>

#include "sidecar/log/file_identity.h"

namespace tallygate::sidecar {
namespace {

constexpr const char* kIncarnation = "inc-";
constexpr const char* kAside = "aside-";  // incarnations that nobody can read
constexpr const char* kKept = "kept-";    // what is left of incarnations that are finished
constexpr const char* kDoomed = "gone-";  // incarnations that are being deleted

std::vector<std::string> names_in(const std::string& folder, const std::function<bool(std::string_view)>& wanted) {
  std::vector<std::string> names;
  DIR* dir = opendir(folder.c_str());
  if (dir == nullptr) return names;
  while (const dirent* entry = readdir(dir)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != ".." && wanted(name)) names.emplace_back(name);
  }
  closedir(dir);
  return names;
}

bool any(std::string_view) { return true; }
bool is_incarnation(std::string_view name) { return name.starts_with(kIncarnation); }
bool is_doomed(std::string_view name) { return name.starts_with(kDoomed); }
bool is_aside(std::string_view name) { return name.starts_with(kAside); }
bool is_kept(std::string_view name) { return name.starts_with(kKept); }
bool is_ours(std::string_view name) {
  return name == "lock" || name == "ledger-mark" || is_incarnation(name) || is_kept(name) || is_doomed(name);
}

// What this user alone has made and alone may change.
Result<void> check_owner(const std::string& path, const struct stat& info) {
  const auto refuse = [&path](const std::string& what, const std::string& fix) {
    return fail(Errc::kInvalid,
                path + " " + what + ": the usage log takes only what this user alone may write; " + fix);
  };
  constexpr const char* kElsewhere = "give --data-dir a folder that does not exist yet: it is made with the mode 0700";
  if (S_ISLNK(info.st_mode)) return refuse("is a symbolic link", "remove it, or " + std::string(kElsewhere));
  if (info.st_uid != geteuid()) {
    return refuse("belongs to the user " + std::to_string(info.st_uid) + ", and this process runs as " +
                      std::to_string(geteuid()),
                  kElsewhere);
  }
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    char mode[8];
    std::snprintf(mode, sizeof mode, "%04o", static_cast<unsigned>(info.st_mode & 07777));
    return refuse("may be written by others (mode " + std::string(mode) + ")",
                  "run chmod -R go-w on the data folder, or " + std::string(kElsewhere));
  }
  return {};
}

// All that stands in `folder` and bears one of our names, two levels deep.
Result<void> check_entries(const std::string& folder, const std::function<bool(std::string_view)>& wanted) {
  for (const auto& name : names_in(folder, wanted)) {
    const std::string path = folder + "/" + name;
    struct stat info {};
    if (lstat(path.c_str(), &info) != 0) continue;
    if (auto checked = check_owner(path, info); !checked) return checked;
    if (!S_ISDIR(info.st_mode)) continue;
    for (const auto& inner : names_in(path, any)) {
      const std::string file = path + "/" + inner;
      if (lstat(file.c_str(), &info) != 0) continue;
      if (auto checked = check_owner(file, info); !checked) return checked;
    }
  }
  return {};
}

void remove_all(const std::string& folder) {
  for (const auto& name : names_in(folder, any)) unlink((folder + "/" + name).c_str());
  rmdir(folder.c_str());
}

}  // namespace

DataFolder::~DataFolder() {
  if (lock_fd_ >= 0) close(lock_fd_);
  if (fd_ >= 0) close(fd_);
}

Result<void> DataFolder::open(const std::string& path) {
  path_ = path;
  while (path_.size() > 1 && path_.ends_with('/')) path_.pop_back();
  const auto because = [](const std::string& what) {
    return fail(Errc::kInternal, what + ": " + std::strerror(errno));
  };
  const bool made = mkdir(path_.c_str(), 0700) == 0;
  if (!made && errno == ENOENT) {
    return fail(Errc::kInternal,
                "the data folder " + path_ + " cannot be made: what it is to be in is not there; make that first");
  }
  if (!made && errno != EEXIST) return because("cannot make the data folder " + path_);
  struct stat info {};
  fd_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd_ < 0 || fstat(fd_, &info) != 0) return because("cannot open the data folder " + path_);
  if (auto checked = check_owner("the data folder " + path_, info); !checked) return checked;
  if (auto checked = check_entries(path_, is_ours); !checked) return checked;
  const std::string lock = path_ + "/lock";
  lock_fd_ = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock_fd_ < 0) return because("cannot open " + lock);
  // The folder too, for whoever deletes the file unlocks nothing; where the file system can (NFS cannot).
  const bool taken = flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  if (taken || flock(lock_fd_, LOCK_EX | LOCK_NB) != 0) {
    return fail(Errc::kConflict, "the data folder " + path_ + " is in use by another sidecar; give each one its own");
  }
  for (const auto& name : names_in(path_, is_doomed)) remove_all(path_ + "/" + name);
  return {};
}

Result<void> DataFolder::check() const { return still_there(path_, fd_, {&lock_fd_, 1}); }

std::vector<std::string> DataFolder::incarnations() const {
  std::vector<std::pair<int64_t, std::string>> found;
  for (const auto& name : names_in(path_, is_incarnation)) {
    const std::string folder = path_ + "/" + name;
    struct statx info {};
    if (statx(AT_FDCWD, folder.c_str(), 0, STATX_BTIME | STATX_MTIME, &info) != 0) continue;
    // When it was made. Its last change, which says little, only where the file system does not know.
    const auto& when = (info.stx_mask & STATX_BTIME) != 0 ? info.stx_btime : info.stx_mtime;
    found.emplace_back(when.tv_sec * 1'000'000'000 + when.tv_nsec, folder);
  }
  std::sort(found.begin(), found.end());
  std::vector<std::string> folders;
  for (auto& [when, folder] : found) folders.push_back(std::move(folder));
  return folders;
}

// What cannot be renamed stays where it is, and is tried again by the next process.
void DataFolder::set_aside(const std::string& folder) {
  const size_t at = folder.rfind('/') + 1;
  (void)rename(folder.c_str(), (folder.substr(0, at) + kAside + folder.substr(at)).c_str());
}

std::vector<std::string> DataFolder::aside() const {
  std::vector<std::string> folders = names_in(path_, is_aside);
  for (auto& name : folders) name = path_ + "/" + name;
  return folders;
}

// Renamed first: from then on nobody takes it for a log that is to be recovered.
void DataFolder::keep(const std::string& folder) {
  const size_t at = folder.rfind('/') + 1;
  const std::string kept = folder.substr(0, at) + kKept + incarnation_of(folder);
  if (rename(folder.c_str(), kept.c_str()) != 0) return remove(folder);
  const auto has_no_records = [](std::string_view name) {
    return !name.starts_with("records-") && !name.starts_with("booked-");
  };
  for (const auto& name : names_in(kept, has_no_records)) unlink((kept + "/" + name).c_str());
}

std::vector<std::string> DataFolder::kept() const {
  std::vector<std::string> folders;
  for (const auto& name : names_in(path_, is_kept)) folders.push_back(path_ + "/" + name);
  std::sort(folders.begin(), folders.end());
  return folders;
}

std::string DataFolder::incarnation_of(const std::string& folder) {
  return folder.substr(folder.find('-', folder.rfind('/')) + 1);
}

// Under another name first: half deleted it would look like one that was damaged.
void DataFolder::remove(const std::string& folder) {
  const size_t at = folder.rfind('/') + 1;
  const std::string doomed = folder.substr(0, at) + kDoomed + folder.substr(at);
  if (rename(folder.c_str(), doomed.c_str()) == 0) remove_all(doomed);
}

}  // namespace tallygate::sidecar
