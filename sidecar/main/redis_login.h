// Follows the file that the URL of Redis came from: whoever rotates the password writes the new one there, accepts both
// for a while, and ends old connections then. The address stays what it was at the start.
//
// Threading: the event loop's thread. Reads a small file once a second.
#pragma once

#include <optional>
#include <string>

#include "core/redis_client/url.h"

namespace tallygate::sidecar {

class RedisLogin {
 public:
  // `path` empty: there is no file, and nothing ever changes.
  RedisLogin(std::string path, redis::Endpoint now) : path_(std::move(path)), now_(std::move(now)) {}
  // The endpoint where its user or password has changed since the last look. A file that is away or cannot be read as
  // a URL changes nothing: it may be in the middle of being replaced.
  std::optional<redis::Endpoint> look(int64_t now_ns);

 private:
  std::string path_;
  redis::Endpoint now_;
  std::string text_;
  int64_t looked_ns_ = 0;
};

}  // namespace tallygate::sidecar
