#include "sidecar/admission/trust.h"

#include "core/file.h"
#include "core/telemetry/log.h"

namespace tallygate::sidecar {
namespace {

using redis_contract::Distrust;
using redis_contract::Edition;
using redis_contract::TrustedKeys;

constexpr int64_t kLookMs = 1'000;
constexpr size_t kFileBytesMax = 64 * 1024;
constexpr int64_t kTroubleForNs = 60'000'000'000;  // how long /health tells of a refusal

const char* in_words(Distrust why) {
  switch (why) {
    case Distrust::kUnsigned: return "it is not signed";
    case Distrust::kUnknownKey: return "it is signed by a key that is not in --publication-key-file";
    case Distrust::kForged: return "its signature is not of this name, edition and content";
    case Distrust::kReplayed: return "it is older than what is known";
    case Distrust::kCount: break;
  }
  return "";
}

// Of an identity its kind alone: the rest may be somebody's, or the hash of a key that can be guessed.
std::string shown(std::string_view name) {
  const size_t colon = name.starts_with('I') ? name.find(':') : name.npos;
  return colon == name.npos ? std::string(name.substr(0, 200)) : std::string(name.substr(0, colon + 1)) + "…";
}

}  // namespace

Trust::Trust(EventLoop& loop, std::string file) : loop_(loop), file_(std::move(file)) {}

Trust::~Trust() { loop_.cancel(timer_); }

void Trust::start() {
  if (verifies()) return look();
  log::warn("what is published in Redis is believed as it is: whoever can write there decides who is who; give "
            "--publication-key-file");
}

void Trust::look() {
  timer_ = loop_.after_ms(kLookMs, [this] { look(); });
  auto content = read_file(file_, kFileBytesMax);
  if (!content) return set_file_trouble(content.error().message);
  if (has_keys_ && *content == content_) return set_file_trouble("");
  auto keys = TrustedKeys::from_pem(*content);
  if (!keys) return set_file_trouble(file_ + ": " + keys.error().message);
  content_ = std::move(*content);
  set_file_trouble("");
  if (has_keys_ && *keys == keys_) return;
  keys_ = std::move(*keys);
  log::info("keys of the publication", {{"keys", keys_.ids()}, {"file", file_}});
  has_keys_ = true;
  changed_();
}

bool Trust::believes(std::string_view name, std::string_view document, std::string_view signature, Edition* known) {
  if (!verifies()) return true;
  if (!has_keys_) return false;  // which look() tells: it is nobody's fault of what came
  const auto edition = keys_.verify(name, document, signature);
  if (!edition || *edition < *known) {
    refuse(name, edition ? Distrust::kReplayed : edition.error(), *known);
    return false;
  }
  *known = *edition;
  counters_.verified.fetch_add(1, std::memory_order_relaxed);
  return true;
}

void Trust::refuse(std::string_view name, Distrust why, const Edition& known) {
  counters_.refused[static_cast<size_t>(why)].fetch_add(1, std::memory_order_relaxed);
  static log::Throttle throttle(1);
  log::error(throttle, "what came from Redis is not believed; what was in force stays",
             {{"name", shown(name)},
              {"reason", to_string(why)},
              {"why", in_words(why)},
              {"known_version", known.version},
              {"fix", why == Distrust::kReplayed ? "somebody wrote it there, or Redis has lost what came after it"
                                                 : "compare with `tallygate-operator publication key`, and look who "
                                                   "can write to Redis"}});
  const std::lock_guard lock(mutex_);
  refused_ = shown(name) + " in Redis is not believed: " + in_words(why);
  refused_at_ns_.store(loop_.now_ns());
}

void Trust::set_file_trouble(std::string trouble) {
  if (!trouble.empty()) {
    static log::Throttle throttle(10);
    log::error(throttle, has_keys_ ? "the publication's keys cannot be read; the last ones stay"
                                   : "the publication's keys are not there yet: nothing that is published is believed",
               {{"error", trouble}});
  }
  const std::lock_guard lock(mutex_);
  file_trouble_ = std::move(trouble);
}

std::string Trust::trouble() const {
  const std::lock_guard lock(mutex_);
  if (!file_trouble_.empty()) return "the publication's keys cannot be read: " + file_trouble_;
  const int64_t at_ns = refused_at_ns_.load();
  return at_ns != 0 && loop_.env().mono_ns() - at_ns < kTroubleForNs ? refused_ : "";
}

}  // namespace tallygate::sidecar
