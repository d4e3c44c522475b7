// Who may call the API: keys for JWTs, service tokens. An immutable value; the store holds the one in force.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "operator/api/jwt.h"
#include "operator/api/provider/providers.h"
#include "operator/api/service_tokens.h"
#include "operator/api/settings.h"

namespace tallygate::api {

struct Credentials {
  std::optional<JwtKeys> jwt_keys;  // absent: no JWT is taken
  JwtRules jwt_rules;
  ServiceTokens service_tokens;
  std::shared_ptr<const Providers> providers = std::make_shared<Providers>();
};

// Each reads what the settings name, anew. kInvalid: says which file is wrong, all its faults, and how to mend them.
Result<std::optional<JwtKeys>> load_jwt_keys(const ApiSettings& settings);
Result<ServiceTokens> load_service_tokens(const ApiSettings& settings);
// Their events are counted in `registry`. `files` becomes what was read.
Result<std::shared_ptr<const Providers>> load_providers(const ApiSettings& settings, metrics::Registry& registry,
                                                        std::vector<std::string>* files);
// All but the providers.
Result<Credentials> load_credentials(const ApiSettings& settings);

// Any thread: a request works to its end with the credentials that were in force when it came.
class CredentialStore {
 public:
  explicit CredentialStore(Credentials first) : current_(std::make_shared<const Credentials>(std::move(first))) {}
  std::shared_ptr<const Credentials> current() const {
    const std::lock_guard lock(mutex_);
    return current_;
  }
  // Puts a changed copy in force. One caller at a time.
  template <class Change>
  void change(Change change) {
    auto next = std::make_shared<Credentials>(*current());
    change(*next);
    const std::lock_guard lock(mutex_);
    current_ = std::move(next);
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Credentials> current_;
};

}  // namespace tallygate::api
