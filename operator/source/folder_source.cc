#include "operator/source/folder_source.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "core/telemetry/log.h"
#include "operator/source/folder.h"

namespace tallygate::source {
namespace {

constexpr size_t kNamesTold = 10;
constexpr uint32_t kFolderEvents = IN_CLOSE_WRITE | IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE |
                                   IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
constexpr uint32_t kParentEvents = IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR;

std::string without_trailing_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

class FolderSource::Impl final : public EventLoop::Watcher {
 public:
  Impl(EventLoop& loop, FolderSourceOptions options)
      : loop_(loop), options_(std::move(options)), folder_(without_trailing_slash(options_.path)) {
    std::error_code error;
    auto absolute = std::filesystem::absolute(folder_.path(), error).lexically_normal();
    if (!absolute.has_filename()) absolute = absolute.parent_path();
    name_ = absolute.filename().string();
    parent_ = absolute.parent_path().string();
  }
  ~Impl() { stop(); }

  Result<void> start(Source::OnLook on_look) {
    if (fd_ >= 0) return {};
    fd_ = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd_ < 0) {
      return fail(Errc::kExhausted,
                  std::string("inotify: ") + std::strerror(errno) + " (see fs.inotify.max_user_instances)");
    }
    on_look_ = std::move(on_look);
    loop_.add(fd_, EPOLLIN, this);
    loop_.refresh_now();
    watch();
    rescan_timer_ = loop_.after_ms(options_.rescan_ms, [this] { rescan(); });
    reload(true);
    return {};
  }

  void stop() {
    if (fd_ < 0) return;
    loop_.cancel(reload_timer_);
    loop_.cancel(rescan_timer_);
    loop_.remove(fd_, this);
    close(fd_);
    fd_ = -1;
    reload_timer_ = rescan_timer_ = 0;
    folder_watch_ = parent_watch_ = -1;
  }

  void on_ready(uint32_t) override {
    alignas(inotify_event) char buffer[16 * 1024];
    ssize_t n;
    while ((n = read(fd_, buffer, sizeof buffer)) > 0) {
      for (const char* at = buffer; at < buffer + n;) {
        const auto* event = reinterpret_cast<const inotify_event*>(at);
        on_event(*event, event->len > 0 ? event->name : "");
        at += sizeof(inotify_event) + event->len;
      }
    }
  }

 private:
  void on_event(const inotify_event& event, const std::string& name) {
    if ((event.mask & IN_Q_OVERFLOW) != 0) {
      everything_dirty_ = true;
      return schedule();
    }
    if (event.wd == parent_watch_) {
      if ((event.mask & IN_IGNORED) != 0) parent_watch_ = -1;
      if (name == name_) rewatch();
      return;
    }
    if (event.wd != folder_watch_) return;
    if ((event.mask & IN_IGNORED) != 0) folder_watch_ = -1;
    if ((event.mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF)) != 0) return rewatch();
    if (!is_manifest_name(name) && !name.starts_with("..")) return;
    if ((event.mask & IN_MODIFY) != 0) {
      being_written_.insert(name);  // until IN_CLOSE_WRITE
      return;
    }
    being_written_.erase(name);
    dirty_.insert(name);
    schedule();
  }

  // The folder's path may lead to another folder now.
  void rewatch() {
    if (folder_watch_ >= 0) inotify_rm_watch(fd_, folder_watch_);
    folder_watch_ = -1;
    being_written_.clear();
    watch();
    schedule();
  }

  void watch() {
    if (folder_watch_ < 0) folder_watch_ = inotify_add_watch(fd_, folder_.path().c_str(), kFolderEvents);
    if (parent_watch_ < 0) parent_watch_ = inotify_add_watch(fd_, parent_.c_str(), kParentEvents);
  }

  void schedule() {
    const int64_t now_ns = loop_.now_ns();
    if (reload_timer_ == 0) first_event_ns_ = now_ns;
    loop_.cancel(reload_timer_);
    const int64_t due_ns =
        std::min(now_ns + options_.debounce_ms * 1'000'000, first_event_ns_ + options_.debounce_max_ms * 1'000'000);
    reload_timer_ = loop_.at_ns(due_ns, [this] {
      reload_timer_ = 0;
      reload(false);
    });
  }

  // Where events do not come: two scans that agree with each other, and not with what is loaded.
  void rescan() {
    rescan_timer_ = loop_.after_ms(options_.rescan_ms, [this] { rescan(); });
    watch();
    Folder::Listing listing;
    std::string error;
    const bool present = folder_.list(&listing, &error);
    const bool changed = present != present_ || (present && listing != folder_.loaded());
    const bool stable = listing == last_scan_;
    last_scan_ = std::move(listing);
    if (changed && stable && reload_timer_ == 0) reload(true);
  }

  void reload(bool also_being_written) {
    if (also_being_written) being_written_.clear();
    Folder::Listing listing;
    std::string error;
    std::set<std::string> not_read;
    present_ = folder_.list(&listing, &error, &not_read);
    if (present_) {
      tell_not_read(std::move(not_read));
      if (everything_dirty_) {
        for (const auto& [name, signature] : listing) dirty_.insert(name);
      }
      folder_.update(listing, dirty_, being_written_);
      dirty_.clear();
      everything_dirty_ = false;
    }
    const auto tell = on_look_;  // it may stop this
    tell(look(error));
  }

  void tell_not_read(std::set<std::string> names) {
    if (names == not_read_) return;
    not_read_ = std::move(names);
    if (not_read_.empty()) return;
    std::string some;
    size_t n = 0;
    for (const auto& name : not_read_) {
      if (n++ == kNamesTold) break;
      some += (some.empty() ? "" : ", ") + name;
    }
    log::warn(
        "some of what is in the manifest folder is not read: manifests end in .yaml, .yml or .json, and subfolders are "
        "not looked into",
        {{"folder", folder_.path()}, {"not_read", not_read_.size()}, {"names", some}});
  }

  Look look(const std::string& error) {
    Look look;
    look.files = folder_.contents();
    std::string faulty;
    for (const auto& file : look.files) {
      if (file->faults.empty()) {
        never_good_.erase(file->file);
      } else if (first_ || never_good_.contains(file->file)) {
        never_good_.insert(file->file);
        faulty = file->file;
      }
    }
    first_ = false;
    if (!faulty.empty()) look.doubt = faulty + " has had faults ever since the start, and what is missing may be in it";
    if (!present_) {
      look.doubt = "the manifest folder " + folder_.path() + ": " + error;
      look.files.push_back(missing_folder(error));
    }
    return look;
  }

  std::shared_ptr<const manifest::FileContent> missing_folder(const std::string& error) const {
    auto content = std::make_shared<manifest::FileContent>();
    content->file = folder_.path();
    content->faults.push_back({folder_.path(), 0, "", "", manifest::Reason::kNotFound, "the manifest folder: " + error,
                               "restore it; until then the last good objects stay in force"});
    return content;
  }

  EventLoop& loop_;
  const FolderSourceOptions options_;
  Folder folder_;
  std::string name_;
  std::string parent_;
  Source::OnLook on_look_;
  int fd_ = -1;
  int folder_watch_ = -1;
  int parent_watch_ = -1;
  EventLoop::TimerId reload_timer_ = 0;
  EventLoop::TimerId rescan_timer_ = 0;
  int64_t first_event_ns_ = 0;
  std::set<std::string> dirty_;          // files with an event since the last reload
  std::set<std::string> being_written_;  // files modified and not yet closed
  bool everything_dirty_ = false;
  bool present_ = true;
  Folder::Listing last_scan_;
  std::set<std::string> not_read_;
  std::set<std::string> never_good_;  // files that have had faults since the first look
  bool first_ = true;
};

FolderSource::FolderSource(EventLoop& loop, FolderSourceOptions options)
    : impl_(std::make_unique<Impl>(loop, std::move(options))) {}
FolderSource::~FolderSource() = default;
Result<void> FolderSource::start(OnLook on_look) { return impl_->start(std::move(on_look)); }
void FolderSource::stop() { impl_->stop(); }

}  // namespace tallygate::source
