// Where an API server is, whom to trust and who we are: from a pod's service account, or from a kubeconfig file.
//
// Credentials may rotate: they are kept as files where they come from files, and read again when they change
// (Client does). Data that a kubeconfig holds inline is kept in memory.
#pragma once

#include <cstdint>
#include <string>

#include "core/result.h"

namespace tallygate::kube {

struct Secret {           // a credential: from a file, read again as it changes, or given inline; never logged
  std::string file = {};  // wins
  std::string text = {};  // PEM or token
  bool empty() const { return file.empty() && text.empty(); }
};

struct Config {
  std::string server = {};            // "https://host:port", with a prefix where there is one; no trailing slash
  std::string tls_server_name = {};   // the name that the certificate must have, where it is not the host of `server`
  Secret authorities = {};            // PEM; empty: the system's
  Secret certificate = {}, key = {};  // of a client certificate; both or none
  Secret token = {};                  // bearer
  std::string name_space = {};        // the pod's own, or the context's; "default" where nothing says it
  int64_t timeout_ms = 30'000;        // of a call, its retries included; not of a watch
};

// Of the pod this runs in: KUBERNETES_SERVICE_HOST and _PORT, and `folder` with token, ca.crt, namespace.
Result<Config> in_cluster(const std::string& folder = "/var/run/secrets/kubernetes.io/serviceaccount");
bool is_in_cluster();

// One file. `context` empty: its current context. Paths are relative to the file. kInvalid names the field, and says
// so where it asks for what we do not do (exec plug-ins, auth providers, insecure-skip-tls-verify, basic auth).
Result<Config> from_kubeconfig(const std::string& path, const std::string& context = {});

}  // namespace tallygate::kube
