#include <sstream>

#include "operator/plugin/commands.h"

namespace tallygate::plugin {
namespace {

// The value of a label in a line of Prometheus' text form.
std::string label(const std::string& line, const std::string& name) {
  const size_t begin = line.find(name + "=\"");
  if (begin == std::string::npos) return "";
  const size_t from = begin + name.size() + 2;
  return line.substr(from, line.find('"', from) - from);
}

void read_metrics(OperatorPod& pod, const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::string value = line.substr(line.rfind(' ') + 1);
    if (line.starts_with("tallygate_operator_leader ")) pod.leads = value == "1";
    if (line.starts_with("tallygate_operator_build_info{")) pod.version = label(line, "version");
    if (line.starts_with("tallygate_operator_sidecars{")) pod.sidecars.emplace_back(label(line, "software"), value);
  }
}

std::string admin_port(const Json& pod) {
  for (const Json& container : at(pod, {"spec", "containers"})) {
    for (const Json& port : at(container, {"ports"})) {
      if (text_at(port, {"name"}) == "admin") return text_at(port, {"containerPort"});
    }
  }
  return "9090";
}

}  // namespace

Result<std::vector<OperatorPod>> ask_operators(Cluster& cluster, const std::string& system_namespace) {
  const auto pods = cluster.list(kPods, system_namespace, kOperatorLabels);
  if (!pods) return tl::unexpected<Error>(pods.error());
  std::vector<OperatorPod> out;
  for (const Json& object : *pods) {
    OperatorPod& pod = out.emplace_back();
    pod.name = text_at(object, {"metadata", "name"});
    const Json& ready = condition(object, "Ready");
    pod.ready = text_at(ready, {"status"}) == "True";
    const std::string proxy =
        "/api/v1/namespaces/" + system_namespace + "/pods/" + pod.name + ":" + admin_port(object) + "/proxy";
    const auto metrics = cluster.client().raw("GET", proxy + "/metrics");
    if (!metrics) {
      pod.fault = metrics.error().message;
      continue;
    }
    read_metrics(pod, *metrics);
    auto health = cluster.raw("GET", proxy + "/health");
    if (health) {
      pod.health = std::move(*health);
    } else if (health.error().message.find(": {") != std::string::npos) {  // 503 with a body of its own, cut
      pod.fault = "is not healthy; `kubectl get --raw " + proxy + "/health` says why";
    } else {
      pod.fault = health.error().message;
    }
  }
  return out;
}

int failed(const Error& error) {
  std::fprintf(stderr, "error: %s\n", error.message.c_str());
  return 1;
}

}  // namespace tallygate::plugin
