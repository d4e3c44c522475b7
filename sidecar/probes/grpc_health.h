// One call of grpc.health.v1.Health/Check over HTTP/2 with prior knowledge (RFC 9113), as a kubelet makes it: what to
// send, and what the frames that come back mean. Pure; header blocks are not decoded, since the answer is in the data.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/result.h"

namespace tallygate::sidecar {

class GrpcHealthCall {
 public:
  // All that is sent at first.
  static std::string request(const std::string& authority, const std::string& service);

  // Takes what came. A value: the answer is complete, and the app is serving or not. kInvalid: it is no gRPC, or the
  // app refused. Nothing yet: more is to come.
  Result<std::optional<bool>> take(std::string_view bytes);
  // What has to be sent in between: acknowledgements.
  std::string replies();

 private:
  Result<std::optional<bool>> frame(uint8_t type, uint8_t flags, std::string_view payload);
  std::string unread_, message_, replies_;
};

}  // namespace tallygate::sidecar
