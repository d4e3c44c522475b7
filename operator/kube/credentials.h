// How to reach the API server now: credentials read from their files, again when those change. Internal to the client.
//
// Threading: any thread.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "core/env.h"
#include "operator/http_client/http_client.h"
#include "operator/kube/config.h"

namespace tallygate::kube {

// One connection pool with its certificates, and the token to send. Calls under way keep the one that they began with.
struct Access {
  std::shared_ptr<HttpClient> http;
  std::string token;
  bool operator==(const Access&) const = default;
};

class Credentials {
 public:
  // kInvalid: they cannot be used.
  static Result<std::unique_ptr<Credentials>> open(Env& env, Config config);

  // Looks at the files where that was not done lately; what cannot be used does not replace what could.
  Access current();
  // Looks at once. → what there is now.
  Access read_again();

 private:
  struct Texts {
    std::string authorities, certificate, key, token;
    bool same_tls(const Texts& other) const {
      return authorities == other.authorities && certificate == other.certificate && key == other.key;
    }
  };
  Credentials(Env& env, Config config) : env_(env), config_(std::move(config)) {}
  Result<Texts> read() const;
  Result<void> take(Texts texts);
  void look();

  Env& env_;
  const Config config_;
  std::mutex mutex_;
  Texts texts_;
  Access access_;
  int64_t looked_ms_ = 0;
};

}  // namespace tallygate::kube
