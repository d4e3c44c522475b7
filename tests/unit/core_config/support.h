// Settings such as a service has, a map for the environment, and files in the test's own folder.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <map>

#include "core/config/options.h"

namespace tallygate::config {

struct Sample {
  ListenAddress listen;
  Url redis;
  std::string redis_path;
  int64_t drain_ms = -1;
  int64_t workers = -1;
  bool shadow = true;
  std::string key;
  std::string state_directory;
  ObjectName secret_name;
  int format = -1;
  std::vector<std::string> roles;
  std::vector<Tagged> sources;
};

inline void declare(OptionSet& options, Sample& s) {
  options.add("listen", &s.listen, listen_address()).env().fallback(":8080").help("address for requests");
  options.add("redis-url", &s.redis, url({"redis", "rediss", "unix"}))
      .from_file(&s.redis_path)
      .env("REDIS_URL")
      .required()
      .help("the quota cache");
  options.add("drain", &s.drain_ms, duration_ms(0, 600'000))
      .env()
      .fallback("25s")
      .help("time for open requests to end");
  options.add("workers", &s.workers, integer(1, 64)).env().fallback("4").help("threads");
  options.add("shadow", &s.shadow, boolean()).env().fallback("false").help("count denials, deny nothing");
  options.add("stripe-key", &s.key, text(8)).env("STRIPE_API_KEY").secret().help("Stripe's secret key");
  options.add("state-dir", &s.state_directory, directory(Must::kExist)).fallback("/").help("where segments live");
  options.add("tls-secret", &s.secret_name, object_name()).fallback("billing/tls").help("certificate");
  options.add("log-format", &s.format, one_of<int>({{"json", 1}, {"text", 2}})).fallback("json").help("how lines look");
  options.add("roles", &s.roles, list_of(text(1, 20))).env().fallback("api,controller").help("parts to run");
  options.add("source", &s.sources, list_of(tagged({{"dir", "PATH"}, {"kubernetes", ""}}), '\0')).help("manifests");
}

class MapEnvironment {
 public:
  MapEnvironment(std::map<std::string, std::string> values = {}) : values_(std::move(values)) {}
  Environment lookup() const {
    return [this](const std::string& name) -> std::optional<std::string> {
      const auto found = values_.find(name);
      return found == values_.end() ? std::nullopt : std::optional<std::string>(found->second);
    };
  }

 private:
  std::map<std::string, std::string> values_;
};

// A file that lives as long as this.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content) {
    std::string path = testing::TempDir() + "tg_config_XXXXXX";
    const int fd = mkstemp(path.data());
    EXPECT_GE(fd, 0);
    EXPECT_EQ(write(fd, content.data(), content.size()), static_cast<ssize_t>(content.size()));
    close(fd);
    path_ = path;
  }
  ~TemporaryFile() { std::remove(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string joined(const std::vector<Fault>& faults) {
  std::string out;
  for (const Fault& fault : faults) out += to_string(fault) + "\n";
  return out;
}

}  // namespace tallygate::config
