#include "operator/kube/config.h"

#include <yaml-cpp/yaml.h>

#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <optional>

#include "core/base64.h"
#include "core/file.h"

namespace tallygate::kube {
namespace {

// Leaves the reading of a file from anywhere within; caught below, in this file.
struct Unusable {
  std::string message;
};

[[noreturn]] void refuse(const std::string& message) { throw Unusable{message}; }

class Kubeconfig {
 public:
  Kubeconfig(const std::string& path, YAML::Node root)
      : folder_(std::filesystem::path(path).parent_path()), root_(std::move(root)) {}

  Config config(std::string context_name) const {
    if (context_name.empty()) context_name = text(root_, "current-context");
    if (context_name.empty()) refuse("current-context is not set: choose a context");
    const YAML::Node context = named("contexts", "context", context_name);
    const std::string cluster_name = text(context, "cluster"), user_name = text(context, "user");
    Config config;
    cluster(cluster_name, config);
    if (!user_name.empty()) user(user_name, config);
    config.name_space = text(context, "namespace");
    if (config.name_space.empty()) config.name_space = "default";
    return config;
  }

 private:
  static std::string text(const YAML::Node& in, const char* field) {
    const YAML::Node value = in.IsMap() ? in[field] : YAML::Node();
    return value && value.IsScalar() ? value.Scalar() : "";
  }
  static bool is_set(const YAML::Node& in, const char* field) {
    const YAML::Node value = in.IsMap() ? in[field] : YAML::Node();
    return value && !value.IsNull() && !(value.IsScalar() && (value.Scalar().empty() || value.Scalar() == "false"));
  }

  // The `what` of the entry `name` of a list.
  YAML::Node named(const char* list, const char* what, const std::string& name) const {
    const YAML::Node all = root_[list];
    if (all && all.IsSequence()) {
      for (const YAML::Node& one : all) {
        if (text(one, "name") == name) return one[what] ? one[what] : YAML::Node(YAML::NodeType::Map);
      }
    }
    refuse(std::string(list) + " has no \"" + name + "\"");
  }

  // From the field `field` (a path, relative to the file) or `field`-data (base64, which wins as in kubectl).
  Secret secret(const YAML::Node& in, const std::string& at, const std::string& field) const {
    const std::string data = text(in, (field + "-data").c_str());
    if (!data.empty()) {
      auto pem = base64_decode(data);
      if (!pem) refuse(at + "." + field + "-data is not base64");
      return {"", std::move(*pem)};
    }
    return {absolute(text(in, field.c_str())), ""};
  }

  std::string absolute(const std::string& path) const {
    if (path.empty() || path.front() == '/') return path;
    return (folder_ / path).string();
  }

  static void not_supported(const YAML::Node& in, const std::string& at, const char* field, const char* instead) {
    if (is_set(in, field)) refuse(at + "." + field + " is not supported: " + instead);
  }

  void cluster(const std::string& name, Config& config) const {
    const YAML::Node cluster = named("clusters", "cluster", name);
    const std::string at = "clusters \"" + name + "\"";
    not_supported(cluster, at, "insecure-skip-tls-verify", "give certificate-authority or certificate-authority-data");
    not_supported(cluster, at, "proxy-url", "give an address that is reached without a proxy");
    config.server = text(cluster, "server");
    if (!config.server.starts_with("https://") && !config.server.starts_with("http://")) {
      refuse(at + ".server is not a URL: it must begin with https://");
    }
    while (config.server.ends_with('/')) config.server.pop_back();
    config.tls_server_name = text(cluster, "tls-server-name");
    config.authorities = secret(cluster, at, "certificate-authority");
  }

  void user(const std::string& name, Config& config) const {
    const YAML::Node user = named("users", "user", name);
    const std::string at = "users \"" + name + "\"";
    constexpr const char* kInstead =
        "give a token, a tokenFile or a client certificate, such as those of a service account";
    for (const char* field : {"exec", "auth-provider", "username", "password", "as", "as-uid", "as-groups"}) {
      not_supported(user, at, field, kInstead);
    }
    config.certificate = secret(user, at, "client-certificate");
    config.key = secret(user, at, "client-key");
    if (config.certificate.empty() != config.key.empty()) {
      refuse(at + ": client-certificate and client-key belong together, one is missing");
    }
    config.token = {absolute(text(user, "tokenFile")), text(user, "token")};
  }

  const std::filesystem::path folder_;
  const YAML::Node root_;
};

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

bool is_in_cluster() {
  return !variable("KUBERNETES_SERVICE_HOST").empty() && !variable("KUBERNETES_SERVICE_PORT").empty();
}

Result<Config> in_cluster(const std::string& folder) {
  if (!is_in_cluster()) {
    return fail(Errc::kInvalid,
                "not in a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; give a kubeconfig");
  }
  for (const char* file : {"token", "ca.crt"}) {
    if (!read_file(folder + "/" + file)) {
      return fail(Errc::kInvalid, folder + "/" + file +
                                      " cannot be read: the pod needs its service account's token "
                                      "(automountServiceAccountToken)");
    }
  }
  std::string host = variable("KUBERNETES_SERVICE_HOST");
  if (host.find(':') != std::string::npos) host = "[" + host + "]";
  Config config;
  config.server = "https://" + host + ":" + variable("KUBERNETES_SERVICE_PORT");
  config.authorities.file = folder + "/ca.crt";
  config.token.file = folder + "/token";
  config.name_space = read_file(folder + "/namespace").value_or("");
  while (!config.name_space.empty() && config.name_space.back() <= ' ') config.name_space.pop_back();
  if (config.name_space.empty()) config.name_space = "default";
  return config;
}

Result<Config> from_kubeconfig(const std::string& path, const std::string& context) {
  const auto text = read_file(path);
  if (!text) return fail(Errc::kInvalid, path + ": cannot be read");
  try {
    const YAML::Node root = YAML::Load(*text);
    if (!root.IsMap()) return fail(Errc::kInvalid, path + ": not a kubeconfig");
    return Kubeconfig(path, root).config(context);
  } catch (const Unusable& unusable) {
    return fail(Errc::kInvalid, path + ": " + unusable.message);
  } catch (const YAML::Exception& e) {
    return fail(Errc::kInvalid, path + ": not YAML: line " + std::to_string(e.mark.line + 1) + ": " + e.msg);
  }
}

}  // namespace tallygate::kube
