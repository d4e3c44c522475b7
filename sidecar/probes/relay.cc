#include "sidecar/probes/relay.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace tallygate::sidecar {
namespace {

using Json = nlohmann::json;
constexpr char kPrefix[] = "/app-health/";
constexpr char kDrainPath[] = "/drain";
constexpr int64_t kDrainTimeoutMs = 2000;
constexpr size_t kProbesMax = 100;
constexpr int64_t kTimeoutMaxS = 3600;

std::string text(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// What a request line can hold.
bool is_target(const std::string& path) {
  return path.starts_with('/') && std::all_of(path.begin(), path.end(), [](char c) { return c > ' ' && c != 0x7f; });
}

bool read_http(const Json& action, AppProbe* probe) {
  probe->type = AppProbe::Type::kHttp;
  probe->path = text(action, "path");
  if (probe->path.empty()) probe->path = "/";
  if (!probe->path.starts_with('/')) probe->path = "/" + probe->path;
  if (!is_target(probe->path)) return false;
  for (const Json& header : action.value("httpHeaders", Json::array())) {
    if (!header.is_object()) return false;
    const std::string name = text(header, "name"), value = text(header, "value");
    if (!http::is_token(name) || !http::is_field_value(value)) return false;
    probe->headers.emplace_back(name, value);
  }
  return true;
}

bool read_probe(const Json& given, AppProbe* probe) {
  if (!given.is_object()) return false;
  if (const auto timeout = given.find("timeoutSeconds"); timeout != given.end()) {
    if (!timeout->is_number_integer()) return false;
    probe->timeout_ms = std::clamp<int64_t>(timeout->get<int64_t>(), 1, kTimeoutMaxS) * 1000;
  }
  const auto action = [&](const char* name) -> const Json* {
    const auto found = given.find(name);
    return found != given.end() && found->is_object() ? &*found : nullptr;
  };
  if (const Json* get = action("httpGet")) return read_http(*get, probe);
  if (const Json* call = action("grpc")) {
    probe->type = AppProbe::Type::kGrpc;
    probe->service = text(*call, "service");
    return probe->service.size() <= 120;
  }
  probe->type = AppProbe::Type::kTcp;
  return action("tcpSocket") != nullptr;
}

// Two segments of letters that a path needs no escape for: what the router takes as they are.
bool is_relay_path(const std::string& path) {
  if (!path.starts_with(kPrefix) || std::count(path.begin(), path.end(), '/') != 3) return false;
  const auto name = std::string_view(path).substr(sizeof kPrefix - 1);
  return name.front() != '/' && name.back() != '/' && std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '/';
         });
}

}  // namespace

config::Parser<AppProbes> app_probes() {
  return {[](std::string_view in) -> config::Parsed<AppProbes> {
            const char* const fix = "leave it to the injecting webhook";
            const Json given = Json::parse(in, nullptr, false);
            if (!given.is_object() || given.size() > kProbesMax) return config::refuse("no JSON object of probes", fix);
            AppProbes probes;
            for (const auto& [path, each] : given.items()) {
              AppProbe probe;
              if (!is_relay_path(path) || !read_probe(each, &probe)) {
                return config::refuse(config::quoted(path) + " is no probe", fix);
              }
              probes.emplace(path, std::move(probe));
            }
            return probes;
          },
          "JSON"};
}

void add_drain(http::Router& router, std::function<void()> wind_down) {
  router.add("GET", kDrainPath, [wind_down = std::move(wind_down)](const http::Request& request) {
    // Else every pod of the cluster could make this one not ready.
    if (!config::is_loopback(request.peer)) return http::text_response(403, "from this pod only\n");
    wind_down();
    return http::text_response(200, "ok\n");
  });
}

Result<void> ask_to_drain(Env& env, const config::ListenAddress& admin) {
  AppProbe call;
  call.type = AppProbe::Type::kHttp;
  call.path = kDrainPath;
  call.timeout_ms = kDrainTimeoutMs;
  const bool every = admin.host.empty() || admin.host == "0.0.0.0" || admin.host == "::";
  const std::string host = every                                       ? "127.0.0.1"
                           : admin.host.find(':') == std::string::npos ? admin.host
                                                                       : "[" + admin.host + "]";
  return check_app(env, call, host + ":" + std::to_string(admin.port), "tallygate-sidecar");
}

void add_relays(http::Router& router, const AppProbes& probes, const std::string& upstream, Env& env) {
  for (const auto& [path, probe] : probes) {
    router.add("GET", path, [probe, upstream, &env](const http::Request& request) {
      const auto well = check_app(env, probe, upstream, std::string(request.header("user-agent")));
      return well ? http::text_response(200, "ok\n") : http::text_response(503, well.error().message + "\n");
    });
  }
}

}  // namespace tallygate::sidecar
