// A private etcd and kube-apiserver, as scripts/kubernetes.sh builds them; no controllers, no node. Certificates are
// made when it starts. Client certificate "admin" (system:masters).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "operator/http_client/http_client.h"
#include "operator/kube/config.h"
#include "tests/integration/support/child_process.h"

namespace tallygate::testing {

class KubeServer {
 public:
  // Why there can be none here; empty: there can. Builds the binaries where that is possible.
  static const std::string& missing();

  KubeServer();
  ~KubeServer();
  KubeServer(const KubeServer&) = delete;
  KubeServer& operator=(const KubeServer&) = delete;

  std::string url() const { return "https://127.0.0.1:" + std::to_string(port_); }
  int port() const { return port_; }
  const std::string& folder() const { return folder_; }
  std::string ca_file() const { return folder_ + "/trusted.crt"; }  // whom its certificate is of, now
  kube::Config admin() const;                                       // files, all of it

  void kill_api_server();   // at once; what is stored stays
  void start_api_server();  // on the same port
  // Another authority signs another certificate of the server, which starts again with it; ca_file() changes.
  void change_authority();
  // etcd forgets what was before now: older watches and lists answer 410.
  void compact();
  // As admin: → the body; anything but 2xx is a test's failure.
  std::string call(const std::string& method, const std::string& path, const std::string& json = "");
  pid_t pid() const { return api_server_.pid(); }

 private:
  void openssl(std::vector<std::string> words);
  void make_authority(const std::string& name);
  void sign(const std::string& name, const std::string& authority, const std::string& subject,
            const std::string& extensions);
  void start_etcd();
  std::string path(const std::string& name) const { return folder_ + "/" + name; }

  std::string folder_, binaries_;
  int port_ = 0, etcd_port_ = 0;
  int authorities_ = 0;
  ChildProcess etcd_, api_server_;
};

}  // namespace tallygate::testing
