#include "sidecar/main/redis_login.h"

#include "core/file.h"
#include "core/telemetry/log.h"

namespace tallygate::sidecar {
namespace {

constexpr int64_t kEach_ns = 1'000'000'000;
constexpr size_t kBytesMax = 4096;
constexpr int kRemindS = 60;

}  // namespace

std::optional<redis::Endpoint> RedisLogin::look(int64_t now_ns) {
  if (path_.empty() || now_ns - looked_ns_ < kEach_ns) return std::nullopt;
  looked_ns_ = now_ns;
  auto text = read_file(path_, kBytesMax);
  if (!text || *text == text_) return std::nullopt;
  std::string url = *text;
  while (!url.empty() && (url.back() == '\n' || url.back() == '\r')) url.pop_back();
  static log::Throttle throttle(kRemindS);
  const auto found = redis::parse_url(url);
  if (!found) {
    log::warn(throttle, "the file of Redis' URL holds none now; what was read before stays", {{"path", path_}});
    return std::nullopt;
  }
  text_ = std::move(*text);
  if (found->display() != now_.display()) {
    log::warn(throttle, "the file of Redis' URL names another server: that takes a restart",
              {{"path", path_}, {"redis", now_.display()}, {"file", found->display()}});
    return std::nullopt;
  }
  if (found->user == now_.user && found->password == now_.password) return std::nullopt;
  now_.user = found->user;
  now_.password = found->password;
  return now_;
}

}  // namespace tallygate::sidecar
