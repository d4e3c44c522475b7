#include "operator/admission/probes.h"

#include "operator/admission/names.h"
#include "operator/admission/pod.h"

namespace tallygate::admission {
namespace {

struct Place {
  const char* pointer;  // of the probe or the hook in a container
  const char* name;     // in the relay's path
};
constexpr Place kPlaces[] = {{"/startupProbe", "startup"},
                             {"/livenessProbe", "liveness"},
                             {"/readinessProbe", "readiness"},
                             {"/lifecycle/postStart", "post-start"},
                             {"/lifecycle/preStop", "pre-stop"}};
constexpr const char* kActions[] = {"httpGet", "tcpSocket", "grpc"};

std::string path_of(const Json& container, const Place& place) {
  return kProbePath + text_at(container, "/name") + "/" + place.name;
}

void for_each_place(Json* pod, const std::function<void(Json& container, const Place&, Json& handler)>& fn) {
  for_each_server(*pod, [&](Json& container) {
    for (const Place& place : kPlaces) {
      const Json::json_pointer pointer(place.pointer);
      if (container.contains(pointer)) fn(container, place, container[pointer]);
    }
  });
}

}  // namespace

std::string rewrite_probes(Json* pod, int64_t port, int64_t admin_port, Json* relays) {
  std::string refusal;
  for_each_place(pod, [&](Json& container, const Place& place, Json& handler) {
    for (const char* action : kActions) {
      if (!handler.contains(action)) continue;
      Json& check = handler[action];
      if (resolve_port(container, at(check, "/port")) != port || !text_at(check, "/host").empty()) return;
      if (text_at(check, "/scheme") == "HTTPS") {
        refusal = "container " + text_at(container, "/name") + " speaks TLS on port " + std::to_string(port) +
                  " (its " + place.name +
                  " probe says so), which a sidecar cannot meter: let it speak plain HTTP there, and " +
                  "end TLS before the pod";
        return;
      }
      const std::string path = path_of(container, place);
      Json& relay = (*relays)[path];
      relay[action] = std::move(check);
      if (handler.contains("timeoutSeconds")) relay["timeoutSeconds"] = handler["timeoutSeconds"];
      handler.erase(action);
      handler["httpGet"] = {{"path", path}, {"port", admin_port}, {"scheme", "HTTP"}};
      return;
    }
  });
  return refusal;
}

void restore_probes(Json* pod, const Json& relays) {
  for_each_place(pod, [&](Json& container, const Place& place, Json& handler) {
    const std::string path = path_of(container, place);
    if (text_at(handler, "/httpGet/path") != path || !relays.contains(path)) return;
    for (const char* action : kActions) {
      if (!relays[path].contains(action)) continue;
      handler.erase("httpGet");
      handler[action] = relays[path][action];
    }
  });
}

}  // namespace tallygate::admission
