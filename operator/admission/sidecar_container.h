// The containers that injection adds, and their volumes.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "operator/admission/inject.h"

namespace tallygate::admission {

struct SidecarSpec {
  std::string policy;  // "shop/api"
  int64_t app_port = 0;
  bool app_on_loopback = false;
  Json request_port;  // its entry of `ports`: name, and hostPort where it was moved
  Json relays;        // see probes.h
  bool verifies = false;  // by kPublicationKey of the Secret
};
Json sidecar_container(const SidecarSpec& spec, const Json& pod, const InjectorSettings& settings);
Json init_container(int64_t app_port, const Json& pod, const InjectorSettings& settings);
Json sidecar_volumes(const InjectorSettings& settings);

}  // namespace tallygate::admission
