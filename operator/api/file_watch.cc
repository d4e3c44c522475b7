#include "operator/api/file_watch.h"

#include "core/config/yaml_settings.h"
#include "core/telemetry/log.h"
#include "operator/api/service_tokens.h"

namespace tallygate::api {
namespace {

constexpr size_t kFileBytesMax = 1024 * 1024;
constexpr int kTriesMax = 4;

// A file that cannot be read counts as content, too: that it went, and that it came back, are changes.
std::string content_of(const std::vector<std::string>& files) {
  std::string all;
  for (const auto& file : files) {
    const auto content = config::read_small_file(file, kFileBytesMax);
    all += content ? sha256_hex(*content) : "unreadable: " + content.error().problem;
    all += '\n';
  }
  return all;
}

}  // namespace

FileWatch::FileWatch(Env& env, int64_t interval_ms, metrics::Registry& registry)
    : registry_(registry), ticker_(env, interval_ms, [this] { look(); }) {}

void FileWatch::follow(std::string what, std::vector<std::string> files, std::function<Result<void>()> reload) {
  follow(
      std::move(what), [files = std::move(files)] { return files; }, std::move(reload));
}

void FileWatch::follow(std::string what, std::function<std::vector<std::string>()> files,
                       std::function<Result<void>()> reload) {
  const metrics::Labels labels = {{"what", what}};
  Followed one{std::move(what), std::move(files), std::move(reload), "", {}, {}, {}, ""};
  one.content = content_of(one.files());
  one.taken = registry_.counter("tallygate_operator_api_reloads_total", "Changed files that were taken.", labels);
  one.failures =
      registry_.counter("tallygate_operator_api_reload_failures_total", "Changed files that are not usable.", labels);
  one.in_trouble = registry_.gauge("tallygate_operator_api_reload_failed",
                                   "1 while the files are not usable and older content is in force.", labels);
  followed_.push_back(std::move(one));
}

void FileWatch::look() {
  for (Followed& one : followed_) {
    if (content_of(one.files()) != one.content) take(one);
  }
}

void FileWatch::take(Followed& one) {
  Result<void> taken;
  std::string before = content_of(one.files());
  for (int i = 0; i < kTriesMax; ++i) {
    taken = one.reload();
    one.content = std::exchange(before, content_of(one.files()));
    if (one.content == before) break;
  }
  // Before the metrics: who sees them finds the reason in /health.
  {
    const std::lock_guard lock(mutex_);
    one.trouble = taken ? "" : one.what + ": " + taken.error().message;
  }
  one.in_trouble.set(taken ? 0 : 1);
  (taken ? one.taken : one.failures).add();
  if (taken) {
    log::info("changed files are in force", {{"what", one.what}});
  } else {
    log::error("changed files are not usable; what was in force stays so: mend them, no restart is needed",
               {{"what", one.what}, {"error", taken.error().message}});
  }
}

std::string FileWatch::trouble() const {
  const std::lock_guard lock(mutex_);
  std::string all;
  for (const Followed& one : followed_) {
    if (!one.trouble.empty()) all += (all.empty() ? "" : "; ") + one.trouble;
  }
  return all;
}

}  // namespace tallygate::api
