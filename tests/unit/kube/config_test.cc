#include "operator/kube/config.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "tests/unit/kube/support.h"

namespace tallygate::kube {
namespace {

std::string kubeconfig(const std::string& cluster, const std::string& user) {
  return "apiVersion: v1\nkind: Config\ncurrent-context: here\n"
         "contexts:\n- {name: other, context: {cluster: c, user: u, namespace: shop}}\n"
         "- {name: here, context: {cluster: c, user: u}}\n"
         "clusters:\n- name: c\n  cluster: {" +
         cluster + "}\nusers:\n- name: u\n  user: {" + user + "}\n";
}

TEST(Kubeconfig, ReadsFilesBesideItAndDataWithin) {
  const TemporaryFile file(
      kubeconfig("server: 'https://[fd00::1]:6443/k8s/clusters/c-1/', tls-server-name: api.example, "
                 "certificate-authority: ca.crt",
                 "client-certificate-data: Y2VydA==, client-key: /abs/key, tokenFile: t, token: x"));
  const auto config = from_kubeconfig(file.path());
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->server, "https://[fd00::1]:6443/k8s/clusters/c-1");
  EXPECT_EQ(config->tls_server_name, "api.example");
  const auto folder = std::filesystem::path(file.path()).parent_path();
  EXPECT_EQ(config->authorities.file, folder / "ca.crt");
  EXPECT_EQ(config->certificate.text, "cert");
  EXPECT_EQ(config->certificate.file, "");
  EXPECT_EQ(config->key.file, "/abs/key");
  EXPECT_EQ(config->token.file, folder / "t");
  EXPECT_EQ(config->token.text, "x");
  EXPECT_EQ(config->name_space, "default");
  EXPECT_EQ(from_kubeconfig(file.path(), "other")->name_space, "shop");
}

TEST(Kubeconfig, TakesOneWithoutAUser) {
  const TemporaryFile file(
      "current-context: a\ncontexts: [{name: a, context: {cluster: a}}]\nclusters: [{name: a, cluster: {server: "
      "'http://127.0.0.1:8080'}}]\n");
  const auto config = from_kubeconfig(file.path());
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->server, "http://127.0.0.1:8080");
  EXPECT_TRUE(config->token.empty() && config->certificate.empty());
}

TEST(Kubeconfig, NamesWhatItCannotUse) {
  const std::string good = "server: 'https://a'";
  const std::pair<std::string, std::string> bad[] = {
      {"", "not a kubeconfig"},
      {"[", "not YAML: line 1"},
      {"a: b", "current-context is not set"},
      {"current-context: x", "contexts has no \"x\""},
      {"current-context: x\ncontexts: [{name: x, context: {cluster: y}}]", "clusters has no \"y\""},
      {kubeconfig("server: ''", ""), "clusters \"c\".server is not a URL: it must begin with https://"},
      {kubeconfig("server: '10.0.0.1:6443'", ""), "clusters \"c\".server is not a URL"},
      {kubeconfig(good + ", insecure-skip-tls-verify: true", ""), "insecure-skip-tls-verify is not supported: give"},
      {kubeconfig(good + ", proxy-url: 'http://p'", ""), "proxy-url is not supported"},
      {kubeconfig(good + ", certificate-authority-data: '*'", ""), "certificate-authority-data is not base64"},
      {kubeconfig(good, "exec: {command: aws}"),
       "users \"u\".exec is not supported: give a token, a tokenFile or a client certificate"},
      {kubeconfig(good, "auth-provider: {name: gcp}"), "users \"u\".auth-provider is not supported"},
      {kubeconfig(good, "username: me, password: hunter2"), "users \"u\".username is not supported"},
      {kubeconfig(good, "as: root, token: t"), "users \"u\".as is not supported"},
      {kubeconfig(good, "client-certificate: c"), "client-certificate and client-key belong together"},
  };
  for (const auto& [text, message] : bad) {
    const TemporaryFile file(text);
    const auto config = from_kubeconfig(file.path());
    ASSERT_FALSE(config) << text;
    EXPECT_EQ(config.error().errc, Errc::kInvalid);
    EXPECT_NE(config.error().message.find(message), std::string::npos) << config.error().message;
    EXPECT_TRUE(config.error().message.starts_with(file.path())) << config.error().message;
    EXPECT_EQ(config.error().message.find("hunter2"), std::string::npos);
  }
  EXPECT_FALSE(from_kubeconfig("/nonexistent"));
  const TemporaryFile file(kubeconfig(good + ", insecure-skip-tls-verify: false", "exec: null"));
  EXPECT_TRUE(from_kubeconfig(file.path())) << "what is off is not asked for";
}

TEST(InCluster, IsWhereThePodIs) {
  unsetenv("KUBERNETES_SERVICE_HOST");
  EXPECT_FALSE(is_in_cluster());
  EXPECT_NE(in_cluster().error().message.find("KUBERNETES_SERVICE_HOST"), std::string::npos);
  setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
  setenv("KUBERNETES_SERVICE_PORT", "443", 1);
  EXPECT_TRUE(is_in_cluster());
  const std::string folder = testing::TempDir() + "tg_sa_" + system_env().random_hex(6);
  EXPECT_NE(in_cluster(folder).error().message.find("automountServiceAccountToken"), std::string::npos);
  std::filesystem::create_directory(folder);
  for (const char* file : {"token", "ca.crt"}) std::ofstream(folder + "/" + file) << "x";
  auto config = in_cluster(folder);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->server, "https://[fd00::1]:443");
  EXPECT_EQ(config->token.file, folder + "/token");
  EXPECT_EQ(config->authorities.file, folder + "/ca.crt");
  EXPECT_EQ(config->name_space, "default");
  std::ofstream(folder + "/namespace") << "tallygate-system\n";
  setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1", 1);
  config = in_cluster(folder);
  EXPECT_EQ(config->server, "https://10.0.0.1:443");
  EXPECT_EQ(config->name_space, "tallygate-system");
  std::filesystem::remove_all(folder);
  unsetenv("KUBERNETES_SERVICE_HOST");
  unsetenv("KUBERNETES_SERVICE_PORT");
}

}  // namespace
}  // namespace tallygate::kube
