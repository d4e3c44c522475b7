// The admin port's paths /app-health/<container>/<probe>.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "core/config/parsers.h"
#include "core/env.h"
#include "core/http/router.h"
#include "sidecar/probes/check.h"

namespace tallygate::sidecar {

using AppProbes = std::map<std::string, AppProbe>;  // by path

// JSON as the injecting webhook writes it: {"/app-health/api/liveness": {"httpGet": {"path": "/live", …},
// "timeoutSeconds": 1}}, with httpGet, tcpSocket or grpc as in a pod. Their ports are not looked at: it is the app's.
config::Parser<AppProbes> app_probes();

// GET /drain, by which `tallygate-sidecar drain`, a pod's preStop hook, says that the pod ends: from this pod only.
// `wind_down` is called on a worker.
void add_drain(http::Router& router, std::function<void()> wind_down);
// What that command does: `admin` as of --admin.
Result<void> ask_to_drain(Env& env, const config::ListenAddress& admin);

// Each probe's path. `env` outlives the router; the handlers block.
void add_relays(http::Router& router, const AppProbes& probes, const std::string& upstream, Env& env);

}  // namespace tallygate::sidecar
