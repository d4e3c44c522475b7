// The keeper of the webhook's certificate beside an API server that is a map of objects here; the real one is asked by the
// end-to-end tests.
#include "operator/admission/certificate_keeper.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

namespace tallygate::admission {
namespace {

using Json = nlohmann::json;

class FakeServer final : public kube::Client {
 public:
  void put(const std::string& plural, const kube::ObjectName& name, const Json& object) {
    const std::lock_guard lock(mutex_);
    store(plural, name, object);
  }
  Json find(const std::string& plural, const kube::ObjectName& name) {
    const std::lock_guard lock(mutex_);
    const auto found = objects_.find({plural, name.str()});
    return found == objects_.end() ? Json() : Json::parse(found->second.json);
  }
  std::atomic<bool> takes_patches{true}, lists_configurations{true};

  Result<kube::Page> list(const kube::ListRequest& request, std::stop_token) override {
    if (!lists_configurations && request.type.plural != "secrets") return fail(Errc::kInvalid, "forbidden");
    const std::lock_guard lock(mutex_);
    kube::Page page;
    for (const auto& [key, object] : objects_) {
      if (key.first == request.type.plural) page.objects.push_back(object);
    }
    page.resource_version = std::to_string(revision_);
    return page;
  }
  Result<void> watch(const kube::WatchRequest& request, const TakeEvents& take, std::stop_token stop) override {
    take({});
    while (!stop.stop_requested()) {
      system_env().sleep_ms(5);
      const std::lock_guard lock(mutex_);
      if (std::to_string(revision_) != request.resource_version) return fail(Errc::kConflict, "list again");
    }
    return {};
  }
  Result<kube::Object> create_object(const kube::ResourceType& type, const std::string& name_space,
                                     std::string_view json) override {
    const Json object = Json::parse(json);
    const std::lock_guard lock(mutex_);
    return store(type.plural, {name_space, object["metadata"]["name"]}, object);
  }
  Result<kube::Object> replace(const kube::ResourceType& type, const kube::ObjectName& name, std::string_view json,
                               std::string_view) override {
    const std::lock_guard lock(mutex_);
    return store(type.plural, name, Json::parse(json));
  }
  Result<kube::Object> merge_patch(const kube::ResourceType& type, const kube::ObjectName& name, std::string_view json,
                                   std::string_view) override {
    if (!takes_patches) return fail(Errc::kUnavailable, "no patches today");
    const std::lock_guard lock(mutex_);
    Json object = Json::parse(objects_[{type.plural, name.str()}].json);
    object.merge_patch(Json::parse(json));
    return store(type.plural, name, object);
  }
  Result<kube::Object> get(const kube::ResourceType&, const kube::ObjectName&) override { return unused(); }
  Result<kube::Object> apply(const kube::ResourceType&, const kube::ObjectName&, std::string_view,
                             const kube::ApplyOptions&) override {
    return unused();
  }
  Result<void> remove(const kube::ResourceType&, const kube::ObjectName&, const std::string&,
                      const std::string&) override {
    return unused();
  }
  Result<std::string> raw(const std::string&, const std::string&, std::string_view, const HttpHeaders&) override {
    return unused();
  }
  const kube::Config& config() const override { return config_; }

 private:
  static tl::unexpected<Error> unused() { return fail(Errc::kInternal, "not used"); }
  kube::Object store(const std::string& plural, const kube::ObjectName& name, const Json& object) {
    const std::string version = std::to_string(++revision_);
    return objects_[{plural, name.str()}] = kube::Object{name, "uid", version, 0, false, object.dump()};
  }
  std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, kube::Object> objects_;
  int64_t revision_ = 1;
  kube::Config config_;
};

class Keeper : public ::testing::Test {
 protected:
  void put_configurations() {
    const Json configuration = {{"metadata", {{"name", "tallygate"}}},
                                {"webhooks", Json::array({{{"name", "w"}, {"clientConfig", Json::object()}}})}};
    for (const char* plural : {"validatingwebhookconfigurations", "mutatingwebhookconfigurations"}) {
      server.put(plural, {"", "tallygate"}, configuration);
    }
  }
  void start() {
    KeeperOptions options;
    options.secret = {"system", "certificates"};
    options.configuration = "tallygate";
    options.dns_names = {"webhook.system.svc"};
    options.look_ms = 20;
    keeper = std::make_unique<CertificateKeeper>(
        system_env(), server, options,
        [this](const std::string&, const std::string&) -> Result<void> {
          ++used;
          return {};
        },
        registry);
    keeper->start();
  }
  bool until(const std::function<bool()>& done) {
    for (int i = 0; i < 1'000 && !done(); ++i) system_env().sleep_ms(10);
    return done();
  }
  bool says(const std::string& text) {
    return until([&] { return keeper->trouble().find(text) != std::string::npos; });
  }
  std::string bundle(const char* plural) {
    const Json found = server.find(plural, {"", "tallygate"});
    return found["webhooks"][0]["clientConfig"].value("caBundle", "");
  }
  FakeServer server;
  metrics::Registry registry;
  std::atomic<int> used{0};
  std::unique_ptr<CertificateKeeper> keeper;
};

TEST_F(Keeper, TellsTheApiServerWhomToTrust) {
  put_configurations();
  start();
  EXPECT_TRUE(until([&] { return used > 0 && keeper->trouble().empty(); })) << keeper->trouble();
  EXPECT_FALSE(bundle("validatingwebhookconfigurations").empty());
  EXPECT_EQ(bundle("mutatingwebhookconfigurations"), bundle("validatingwebhookconfigurations"));
}

TEST_F(Keeper, SaysThatConfigurationsAreMissingAndListensAllTheSame) {
  start();
  EXPECT_TRUE(says("there is no MutatingWebhookConfiguration tallygate")) << keeper->trouble();
  EXPECT_TRUE(until([&] { return used > 0; }));
  put_configurations();
  EXPECT_TRUE(until([&] { return keeper->trouble().empty(); })) << keeper->trouble();
}

TEST_F(Keeper, SaysThatConfigurationsAreNotKnown) {
  server.lists_configurations = false;
  start();
  EXPECT_TRUE(says("not known yet")) << keeper->trouble();
  EXPECT_TRUE(says("forbidden")) << keeper->trouble();
  EXPECT_TRUE(until([&] { return used > 0; }));
}

TEST_F(Keeper, ListensThoughItCannotTellWhomToTrust) {
  put_configurations();
  server.takes_patches = false;
  start();
  EXPECT_TRUE(says("no patches today"));
  EXPECT_TRUE(until([&] { return used > 0; }));
  server.takes_patches = true;
  EXPECT_TRUE(until([&] { return keeper->trouble().empty(); })) << keeper->trouble();
  EXPECT_EQ(used, 1);
}

}  // namespace
}  // namespace tallygate::admission
