#include "operator/kube/client.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/core_http/certificates.h"
#include "tests/unit/kube/fake_api_server.h"
#include "tests/unit/kube/support.h"

namespace tallygate::kube {
namespace {

using Seen = FakeApiServer::Seen;
constexpr auto kAny = [](const Seen&) { return true; };
const ResourceType kPod = {"", "v1", "pods", "Pod", true};

class ClientTest : public testing::Test {
 protected:
  Result<std::unique_ptr<Client>> open(Config config) {
    if (config.server.empty()) config.server = api_.url();
    return Client::create(system_env(), config, "tallygate-operator", registry_);
  }
  void make(Config config = {}) {
    auto client = open(std::move(config));
    ASSERT_TRUE(client) << client.error().message;
    client_ = std::move(*client);
  }
  double requests(const char* code, const char* method) {
    return registry_
        .counter("rest_client_requests_total", "", {{"code", code}, {"host", api_.url().substr(7)}, {"method", method}})
        .value();
  }
  FakeApiServer api_;
  metrics::Registry registry_;
  std::unique_ptr<Client> client_;
};

TEST_F(ClientTest, SaysWhatItWantsAsTheServerReadsIt) {
  make({.server = api_.url() + "/prefix", .token = {"", "secret-token"}});
  const ResourceType type = FakeApiServer::type();
  const std::string json = R"({"kind":"Thing","metadata":{"name":"a"}})";
  ASSERT_TRUE(client_->get(type, {"shop", "a"}));
  ASSERT_TRUE(client_->get({"", "v1", "namespaces", "Namespace", false}, {"", "kube-system"}));
  ASSERT_TRUE(client_->apply(type, {"shop", "a"}, json, {.subresource = "status"}));
  ASSERT_TRUE(client_->apply(type, {"shop", "a"}, json, {.force = false, .dry_run = true}));
  ASSERT_TRUE(client_->create_object(type, "shop", json));
  ASSERT_TRUE(client_->replace(type, {"shop", "a"}, json));
  ASSERT_TRUE(client_->merge_patch(type, {"shop", "a"}, json, "status"));
  ASSERT_TRUE(client_->remove(type, {"shop", "a"}, "uid-1", "7"));
  ASSERT_EQ(client_->raw("GET", "/version").value_or("-"), "{}");
  ASSERT_EQ(client_->raw("POST", "/apis/x", "{\"a\":1}").value_or("-"), "{\"a\":1}");
  const std::string things = "/prefix/apis/example.dev/v1/namespaces/shop/things";
  const std::tuple<std::string, std::string, std::string> expected[] = {
      {"GET", things + "/a", ""},
      {"GET", "/prefix/api/v1/namespaces/kube-system", ""},
      {"PATCH", things + "/a/status?fieldManager=tallygate-operator&force=true", "application/apply-patch+yaml"},
      {"PATCH", things + "/a?fieldManager=tallygate-operator&dryRun=All", "application/apply-patch+yaml"},
      {"POST", things + "?fieldManager=tallygate-operator", "application/json"},
      {"PUT", things + "/a?fieldManager=tallygate-operator", "application/json"},
      {"PATCH", things + "/a/status?fieldManager=tallygate-operator", "application/merge-patch+json"},
      {"DELETE", things + "/a", "application/json"},
      {"GET", "/prefix/version", ""},
      {"POST", "/prefix/apis/x", "application/json"},
  };
  const auto seen = api_.seen();
  ASSERT_EQ(seen.size(), std::size(expected));
  for (size_t i = 0; i < seen.size(); ++i) {
    const auto& [method, target, content_type] = expected[i];
    EXPECT_EQ(seen[i].method, method);
    EXPECT_EQ(seen[i].target, target);
    EXPECT_EQ(seen[i].header("content-type"), content_type);
    EXPECT_EQ(seen[i].header("authorization"), "Bearer secret-token");
    EXPECT_TRUE(seen[i].header("user-agent").starts_with("tallygate-operator/")) << seen[i].head;
  }
  EXPECT_EQ(seen[7].body,
            R"({"kind":"DeleteOptions","apiVersion":"v1","preconditions":{"uid":"uid-1","resourceVersion":"7"}})");
}

TEST_F(ClientTest, ListsWithSelectorsAndMetadataOnly) {
  make();
  ListRequest request{.type = kPod, .selector = {"app in (a,b)", "status.phase!=Failed"}, .metadata_only = true};
  request.name_space = "shop";
  request.continue_from = "a/b=";
  client_->list(request);
  const auto seen = api_.seen().back();
  EXPECT_EQ(seen.target,
            "/api/v1/namespaces/shop/pods?labelSelector=app%20in%20%28a%2Cb%29&fieldSelector=status.phase%21%3DFailed&"
            "limit=500&continue=a%2Fb%3D");
  EXPECT_EQ(seen.header("accept"), "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
}

TEST_F(ClientTest, TellsErrorsApartByWhatCanBeDone) {
  make({.token = {"", "secret-token"}});
  const std::string about = R"({"kind":"Status","message":"things \"a\" not found","details":{"name":"a"}})";
  const std::tuple<int, std::string, Errc, std::string> cases[] = {
      {400, R"({"kind":"Status","message":"bad"})", Errc::kInvalid, "400: bad"},
      {401, "Unauthorized", Errc::kInvalid, "401: Unauthorized"},
      {403, R"({"kind":"Status","message":"forbidden: no"})", Errc::kInvalid, "403: forbidden: no"},
      {404, about, Errc::kNotFound, "404: things \"a\" not found"},
      {404, "404 page not found\n", Errc::kInvalid, "404: 404 page not found"},
      {405, "", Errc::kInvalid, "405: "},
      {409, "{}", Errc::kConflict, "409: {}"},
      {410, "{}", Errc::kConflict, "410: "},
      {415, "", Errc::kInvalid, "415: "},
      {422, R"({"message":"Thing \"a\" is invalid: spec.x"})", Errc::kInvalid, "422: Thing \"a\" is invalid: spec.x"},
      {429, "", Errc::kUnavailable, "429: "},
      {500, "[1]", Errc::kUnavailable, "500: [1]"},
      {503, "", Errc::kUnavailable, "503: "},
      {504, R"({"message":"Too large","details":{"causes":[{"reason":"ResourceVersionTooLarge"}]}})", Errc::kConflict,
       "504: Too large"},
      {302, "", Errc::kInvalid, "302: "},
      {200, "nonsense", Errc::kUnavailable, "not a JSON object"},
  };
  for (const auto& [status, body, errc, message] : cases) {
    api_.fail({status, "", body}, 1, kAny);
    const auto got = client_->get(FakeApiServer::type(), {"shop", "a"});
    ASSERT_FALSE(got) << status;
    EXPECT_EQ(got.error().errc, errc) << status << got.error().message;
    EXPECT_TRUE(got.error().message.starts_with("GET /apis/example.dev/v1/namespaces/shop/things/a: "));
    EXPECT_NE(got.error().message.find(message), std::string::npos) << got.error().message;
    EXPECT_EQ(got.error().message.find("secret"), std::string::npos);
  }
  api_.fail({404, "", "404 page not found\n"}, 1, kAny);
  EXPECT_EQ(client_->list({.type = FakeApiServer::type()}).error().errc, Errc::kNotFound) << "the type is missing";
}

TEST_F(ClientTest, WaitsAsLongAsItIsTold) {
  make();
  for (const int status : {429, 503}) {
    const int64_t began_ms = system_env().mono_ms();
    api_.fail({status, "Retry-After: 1\r\n"}, 1, kAny);
    api_.fail({status, "Retry-After: 0\r\n"}, 2, kAny);
    EXPECT_TRUE(client_->create_object(FakeApiServer::type(), "shop", "{}"));
    EXPECT_GE(system_env().mono_ms() - began_ms, 1'000);
  }
  EXPECT_EQ(api_.seen().size(), 8u);
  EXPECT_EQ(requests("429", "POST"), 3);
  EXPECT_EQ(requests("200", "POST"), 2);
  EXPECT_NE(registry_.text().find("rest_client_request_retries_total{code=\"429\",host=\"" + api_.url().substr(7) +
                                  "\",verb=\"POST\"} 3"),
            std::string::npos)
      << registry_.text();
  // Longer than the call may take: an answer at once.
  api_.fail({429, "Retry-After: 3000\r\n"}, 1, kAny);
  EXPECT_EQ(client_->get(FakeApiServer::type(), {"shop", "a"}).error().errc, Errc::kUnavailable);
  api_.fail({429, "Retry-After: soon\r\n"}, 1, kAny);
  EXPECT_EQ(client_->get(FakeApiServer::type(), {"shop", "a"}).error().errc, Errc::kUnavailable);
}

TEST_F(ClientTest, AWaitCanBeStopped) {
  make();
  api_.fail({429, "Retry-After: 20\r\n"}, -1, kAny);
  std::stop_source stop;
  std::jthread stopper([&] {
    eventually([&] { return !api_.seen().empty(); });
    stop.request_stop();
  });
  EXPECT_FALSE(client_->list({.type = FakeApiServer::type()}, stop.get_token()));
  EXPECT_EQ(api_.seen().size(), 1u);
}

TEST_F(ClientTest, RepeatsAReadWhoseConnectionFailedButNoWrite) {
  make();
  for (const FakeApiServer::Answer& cut : {FakeApiServer::Answer{0}, {200, "", R"({"metadata":{"name":"a"}})", true}}) {
    api_.fail(cut, 2, [](const Seen& one) { return one.method == "GET"; });
    EXPECT_TRUE(client_->get(FakeApiServer::type(), {"shop", "a"}));
    api_.fail(cut, -1, kAny);
    EXPECT_FALSE(client_->get(FakeApiServer::type(), {"shop", "a"}));
    const size_t before = api_.seen().size();
    const auto written = client_->create_object(FakeApiServer::type(), "shop", "{}");
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().errc, Errc::kTimeout) << "it may have been done";
    EXPECT_EQ(api_.seen().size(), before + 1);
    api_.forgive();
  }
}

TEST_F(ClientTest, ReadsATokenAgainAsItRotates) {
  TemporaryFile token("first\n");
  make({.token = {token.path(), ""}});
  ASSERT_TRUE(client_->get(FakeApiServer::type(), {"shop", "a"}));
  token.write("second\n");
  api_.fail({401, "", "Unauthorized"}, -1,
            [](const Seen& one) { return one.header("authorization") == "Bearer first"; });
  ASSERT_TRUE(client_->get(FakeApiServer::type(), {"shop", "a"})) << "after a 401 it looks";
  EXPECT_EQ(api_.seen().back().header("authorization"), "Bearer second");
  api_.fail({401, "", "Unauthorized"}, -1, kAny);
  const size_t before = api_.seen().size();
  EXPECT_EQ(client_->get(FakeApiServer::type(), {"shop", "a"}).error().errc, Errc::kInvalid);
  EXPECT_EQ(api_.seen().size(), before + 1) << "nothing new to say";
  // What cannot be used does not replace what could.
  api_.forgive();
  token.write("");
  api_.fail({401, "", "Unauthorized"}, 1, kAny);
  EXPECT_FALSE(client_->get(FakeApiServer::type(), {"shop", "a"}));
  ASSERT_TRUE(client_->get(FakeApiServer::type(), {"shop", "a"}));
  EXPECT_EQ(api_.seen().back().header("authorization"), "Bearer second");
}

TEST_F(ClientTest, RefusesCredentialsThatCannotBeUsed) {
  const http::TestCertificates files(testing::TempDir()), other(testing::TempDir());
  const std::pair<Config, std::string> bad[] = {
      {{.authorities = {"/nonexistent", ""}}, "the certificate authorities: /nonexistent: cannot be read"},
      {{.authorities = {"", "nonsense"}}, "hold no certificate"},
      {{.certificate = {files.certificate_file(), ""}, .key = {other.key_file(), ""}}, "not that of the client"},
      {{.token = {"/dev/null", ""}}, "the token: /dev/null is empty"},
      {{.token = {"", "a b"}}, "the token has characters that no token has"},
  };
  for (const auto& [config, message] : bad) {
    const auto client = open(config);
    ASSERT_FALSE(client) << message;
    EXPECT_EQ(client.error().errc, Errc::kInvalid);
    EXPECT_NE(client.error().message.find(message), std::string::npos) << client.error().message;
  }
}

TEST_F(ClientTest, AWatchSaysThatItIsOpenAndTakesWhatComesTogether) {
  make();
  std::vector<size_t> sizes;
  std::jthread writer([&] {
    eventually([&] { return api_.open_watches() == 1; });
    api_.say(R"({"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"1"}}})"
             "\n"
             R"({"type":"DELETED","object":{"metadata":{"name":"a","resourceVersion":"2"}}})");
  });
  const auto ended = client_->watch({.type = FakeApiServer::type(), .resource_version = "1000", .timeout_s = 60},
                                    [&](const std::vector<WatchEvent>& events) {
                                      sizes.push_back(events.size());
                                      return events.empty();
                                    });
  EXPECT_TRUE(ended) << ended.error().message;
  EXPECT_EQ(sizes, (std::vector<size_t>{0, 2}));
  EXPECT_TRUE(api_.seen().back().target.ends_with(
      "/things?watch=true&allowWatchBookmarks=true&resourceVersion=1000&timeoutSeconds=60"));
}

TEST_F(ClientTest, AWatchThatFallsSilentEnds) {
  make();
  const auto ended = client_->watch({.type = FakeApiServer::type(), .resource_version = "1000", .silence_ms = 50},
                                    [](const auto&) { return true; });
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().errc, Errc::kTimeout);
}

}  // namespace
}  // namespace tallygate::kube
