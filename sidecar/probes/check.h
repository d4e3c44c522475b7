// One probe of the app, as a kubelet would make it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/env.h"
#include "core/result.h"

namespace tallygate::sidecar {

struct AppProbe {
  enum class Type : uint8_t { kHttp, kTcp, kGrpc };
  Type type = Type::kTcp;
  std::string path;                                          // kHttp: with the query
  std::vector<std::pair<std::string, std::string>> headers;  // kHttp
  std::string service;                                       // kGrpc
  int64_t timeout_ms = 1000;
};

// Blocks, at most the probe's time-out. An error says what is wrong with the app. `agent`: the prober's User-Agent.
Result<void> check_app(Env& env, const AppProbe& probe, const std::string& upstream, const std::string& agent);

}  // namespace tallygate::sidecar
