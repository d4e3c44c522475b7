#include "operator/source/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string_view>

namespace tallygate::source {
namespace {

using manifest::FileContent;
using manifest::kMaxFileBytes;
using manifest::Reason;

int64_t nanoseconds(const timespec& t) { return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec; }

FileContent unreadable(const std::string& file, const std::string& why) {
  FileContent content;
  content.file = file;
  content.faults.push_back({file, 0, "", "", Reason::kNotFound, "cannot be read: " + why,
                            "make it a regular file that the operator may read; its last good objects stay"});
  return content;
}

}  // namespace

namespace {

bool ends_with(const std::string& name, std::string_view ending) {  // `ending` in lower case
  return name.size() >= ending.size() &&
         std::equal(ending.begin(), ending.end(), name.end() - static_cast<ptrdiff_t>(ending.size()),
                    [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b + 32 : b); });
}

// Hidden, or an editor's: nobody means them to be read.
bool is_aside(const std::string& name) { return name.starts_with('.') || name.starts_with('#') || name.ends_with('~'); }
bool is_json(const std::string& name) { return ends_with(name, ".json"); }

}  // namespace

bool is_manifest_name(const std::string& name) {
  return !is_aside(name) && (ends_with(name, ".yaml") || ends_with(name, ".yml") || is_json(name));
}

bool Folder::list(Listing* listing, std::string* error, std::set<std::string>* not_read) const {
  listing->clear();
  DIR* dir = opendir(path_.c_str());
  if (dir == nullptr) {
    *error = std::strerror(errno);
    return false;
  }
  while (const dirent* entry = readdir(dir)) {
    const std::string name = entry->d_name;
    if (is_aside(name)) continue;
    struct stat st = {};
    Signature signature;
    const bool known = fstatat(dirfd(dir), name.c_str(), &st, 0) == 0;
    if (!is_manifest_name(name) || (known && S_ISDIR(st.st_mode))) {
      if (not_read != nullptr) not_read->insert(name);
      continue;
    }
    if (known) {
      signature = {st.st_dev, st.st_ino, st.st_size, nanoseconds(st.st_mtim), nanoseconds(st.st_ctim)};
    }
    listing->emplace(name, signature);
  }
  closedir(dir);
  if (listing->size() > kMaxFiles) {
    *error = "more than " + std::to_string(kMaxFiles) + " manifests";
    return false;
  }
  return true;
}

FileContent Folder::read(const std::string& name) const {
  const std::string file = path_ + "/" + name;
  const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // O_NONBLOCK: a FIFO must not hang us
  if (fd < 0) return unreadable(file, std::strerror(errno));
  struct stat st = {};
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    close(fd);
    return unreadable(file, "not a regular file");
  }
  std::string text;
  char buffer[64 * 1024];
  ssize_t n = 0;
  while (text.size() <= kMaxFileBytes && (n = ::read(fd, buffer, sizeof buffer)) != 0) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;
    text.append(buffer, static_cast<size_t>(n));
  }
  const int error = errno;
  close(fd);
  if (n < 0) return unreadable(file, std::strerror(error));
  return manifest::read_manifest(file, text, is_json(name) ? manifest::Syntax::kJson : manifest::Syntax::kYaml);
}

void Folder::update(const Listing& listing, const std::set<std::string>& dirty,
                    const std::set<std::string>& being_written) {
  std::map<std::string, std::shared_ptr<const FileContent>> contents;
  Listing loaded;
  for (const auto& [name, signature] : listing) {
    const auto known = loaded_.find(name);
    const bool was_read = known != loaded_.end();
    const bool same = was_read && known->second == signature && dirty.count(name) == 0;
    if (same || (was_read && being_written.count(name) != 0)) {
      contents.emplace(name, std::move(contents_.at(name)));
      loaded.emplace(*known);
    } else {
      contents.emplace(name, std::make_shared<const FileContent>(read(name)));
      loaded.emplace(name, signature);
    }
  }
  contents_ = std::move(contents);
  loaded_ = std::move(loaded);
}

manifest::Files Folder::contents() const {
  manifest::Files all;
  all.reserve(contents_.size());
  for (const auto& [name, content] : contents_) all.push_back(content);
  return all;
}

}  // namespace tallygate::source
