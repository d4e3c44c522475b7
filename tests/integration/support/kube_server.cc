#include "tests/integration/support/kube_server.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "core/env.h"

namespace tallygate::testing {
namespace {

constexpr int64_t kStart_ms = 60'000;
constexpr int64_t kTry_ms = 50;

std::string output_of(const std::string& command, int& status) {
  std::string out;
  FILE* pipe = popen(command.c_str(), "r");
  TG_ASSERT(pipe != nullptr);
  std::array<char, 4096> piece;
  while (fgets(piece.data(), piece.size(), pipe) != nullptr) out += piece.data();
  status = pclose(pipe);
  while (out.ends_with('\n')) out.pop_back();
  return out;
}

std::string binaries() {
  int status = 0;
  return output_of("scripts/kubernetes.sh path 2>&1", status);
}

std::string text_of(const std::string& file) {
  std::ifstream in(file);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

[[noreturn]] void give_up(const std::string& what, const std::string& log_file) {
  const std::string log = text_of(log_file);
  std::cerr << what << ":\n" << log.substr(log.size() - std::min<size_t>(log.size(), 4000)) << std::endl;
  TG_ASSERT(!"a part of Kubernetes did not start");
  std::abort();
}

}  // namespace

const std::string& KubeServer::missing() {
  static const std::string why = [] {
    int status = 0;
    const std::string said = output_of("scripts/kubernetes.sh 2>&1", status);
    if (status != 0) return said.empty() ? std::string("scripts/kubernetes.sh failed") : said;
    for (const char* name : {"etcd", "kube-apiserver"}) {
      const std::string program = binaries() + "/" + name;
      if (access(program.c_str(), X_OK) != 0) return "there is no " + program;
    }
    return std::string();
  }();
  return why;
}

KubeServer::KubeServer() : folder_(make_temporary_folder()), binaries_(binaries()) {
  make_authority("clients");
  sign("admin", "clients", "/O=system:masters/CN=admin", "extendedKeyUsage=clientAuth");
  openssl({"genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "sa.key"});
  openssl({"pkey", "-in", "sa.key", "-pubout", "-out", "sa.pub"});
  port_ = free_port();
  etcd_port_ = free_port();
  start_etcd();
  change_authority();
}

KubeServer::~KubeServer() {
  kill_api_server();
  etcd_.signal(SIGKILL);
  etcd_.wait();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

kube::Config KubeServer::admin() const {
  kube::Config config;
  config.server = url();
  config.authorities.file = ca_file();
  config.certificate.file = path("admin.crt");
  config.key.file = path("admin.key");
  config.name_space = "default";
  return config;
}

void KubeServer::openssl(std::vector<std::string> words) {
  words.insert(words.begin(), "/usr/bin/openssl");
  for (std::string& word : words) {
    if (word.ends_with(".key") || word.ends_with(".crt") || word.ends_with(".csr") || word.ends_with(".ext") ||
        word.ends_with(".pub"))
      word = path(word);
  }
  ChildProcess process;
  process.start(words, {.as_user = "", .output_file = path("openssl.log")});
  if (process.wait() != 0) give_up("openssl", path("openssl.log"));
}

void KubeServer::make_authority(const std::string& name) {
  openssl({"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", name + ".key"});
  openssl(
      {"req", "-x509", "-new", "-key", name + ".key", "-subj", "/CN=" + name, "-days", "30", "-out", name + ".crt"});
}

void KubeServer::sign(const std::string& name, const std::string& authority, const std::string& subject,
                      const std::string& extensions) {
  openssl({"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", name + ".key"});
  openssl({"req", "-new", "-key", name + ".key", "-subj", subject, "-out", name + ".csr"});
  std::ofstream(path(name + ".ext")) << extensions << "\n";
  openssl({"x509", "-req", "-in", name + ".csr", "-CA", authority + ".crt", "-CAkey", authority + ".key",
           "-CAcreateserial", "-days", "30", "-extfile", name + ".ext", "-out", name + ".crt"});
}

void KubeServer::start_etcd() {
  const std::string client = "http://127.0.0.1:" + std::to_string(etcd_port_);
  const std::string peer = "http://127.0.0.1:" + std::to_string(free_port());
  etcd_.start({binaries_ + "/etcd", "--name", "t", "--data-dir", path("etcd"), "--listen-client-urls", client,
               "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
               "--initial-cluster", "t=" + peer, "--unsafe-no-fsync", "--log-level", "warn"},
              {.as_user = "", .output_file = path("etcd.log")});
  const auto http = make_curl_client();
  for (int64_t waited_ms = 0; waited_ms < kStart_ms; waited_ms += kTry_ms) {
    const auto answer = http->send({.url = client + "/health", .timeout_ms = 1'000});
    if (answer && answer->status == 200) return;
    system_env().sleep_ms(kTry_ms);
  }
  give_up("etcd", path("etcd.log"));
}

void KubeServer::start_api_server() {
  api_server_.start(
      {binaries_ + "/kube-apiserver", "--etcd-servers=http://127.0.0.1:" + std::to_string(etcd_port_),
       "--bind-address=127.0.0.1", "--secure-port=" + std::to_string(port_), "--advertise-address=127.0.0.1",
       "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/16",
       "--tls-cert-file=" + path("server.crt"), "--tls-private-key-file=" + path("server.key"),
       "--client-ca-file=" + path("clients.crt"), "--cert-dir=" + path("certs"),
       "--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + path("sa.pub"),
       "--service-account-signing-key-file=" + path("sa.key"), "--authorization-mode=Node,RBAC",
       // No controller makes ServiceAccounts here, so pods could not have one.
       "--disable-admission-plugins=ServiceAccount", "--profiling=false"},
      {.as_user = "", .output_file = path("apiserver.log")});
  const kube::Config config = admin();
  const auto http = make_curl_client(
      {.ca_file = ca_file(), .certificate_file = config.certificate.file, .key_file = config.key.file});
  for (int64_t waited_ms = 0; waited_ms < kStart_ms; waited_ms += kTry_ms) {
    const auto answer = http->send({.url = url() + "/readyz", .timeout_ms = 1'000});
    if (answer && answer->status == 200) return;
    system_env().sleep_ms(kTry_ms);
  }
  give_up("kube-apiserver", path("apiserver.log"));
}

void KubeServer::kill_api_server() {
  api_server_.signal(SIGKILL);
  api_server_.wait();
}

void KubeServer::change_authority() {
  kill_api_server();
  const std::string authority = "authority" + std::to_string(++authorities_);
  make_authority(authority);
  sign("server", authority, "/CN=kube-apiserver",
       "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc\nextendedKeyUsage=serverAuth");
  std::filesystem::copy_file(path(authority + ".crt"), ca_file() + ".new",
                             std::filesystem::copy_options::overwrite_existing);
  std::filesystem::rename(ca_file() + ".new", ca_file());
  start_api_server();
}

void KubeServer::compact() {
  const std::string list = call("GET", "/api/v1/namespaces?limit=1");
  const std::string mark = "\"resourceVersion\":\"";
  const size_t at = list.find(mark) + mark.size();
  const std::string revision = list.substr(at, list.find('"', at) - at);
  const auto answer =
      make_curl_client()->send({.method = "POST",
                                .url = "http://127.0.0.1:" + std::to_string(etcd_port_) + "/v3/kv/compaction",
                                .headers = {{"Content-Type", "application/json"}},
                                .body = R"({"revision":")" + revision + R"(","physical":true})"});
  TG_ASSERT(answer && answer->status == 200);
}

std::string KubeServer::call(const std::string& method, const std::string& path_and_query, const std::string& json) {
  const kube::Config config = admin();
  const auto http = make_curl_client(
      {.ca_file = ca_file(), .certificate_file = config.certificate.file, .key_file = config.key.file});
  HttpRequest request{.method = method, .url = url() + path_and_query};
  request.body = json;
  if (!json.empty()) {
    request.headers = {{"Content-Type", method == "PATCH" ? "application/merge-patch+json" : "application/json"}};
  }
  const auto answer = http->send(request);
  if (!answer || answer->status / 100 != 2) {
    std::cerr << method << " " << path_and_query << ": " << (answer ? answer->body : answer.error().message)
              << std::endl;
    TG_ASSERT(!"the API server refused");
  }
  return answer->body;
}

}  // namespace tallygate::testing
