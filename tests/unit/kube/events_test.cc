#include "operator/kube/events.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/unit/kube/fake_api_server.h"
#include "tests/unit/kube/support.h"

namespace tallygate::kube {
namespace {

using Seen = FakeApiServer::Seen;
constexpr auto kAny = [](const Seen&) { return true; };

class EventsTest : public testing::Test {
 protected:
  EventsTest() {
    Config config;
    config.server = api_.url();
    client_ = std::move(*Client::create(system_env(), config, "test", registry_));
    recorder_ = std::make_unique<EventRecorder>(system_env(), *client_, "example.dev/controller", std::string(200, 'p'),
                                                registry_);
    recorder_->start();
    about_.name = {"shop", "acme"};
    about_.uid = "uid-1";
    about_.resource_version = "7";
  }
  void record(const std::string& reason, const std::string& note) {
    recorder_->record(FakeApiServer::type(), about_, {EventText::Type::kWarning, reason, "Reconcile", note});
  }
  double count(const char* result) {
    return registry_.counter("tallygate_operator_kube_event_records_total", "", {{"result", result}}).value();
  }
  std::vector<Seen> seen(const std::string& method) {
    std::vector<Seen> some;
    for (auto& one : api_.seen()) {
      if (one.method == method) some.push_back(one);
    }
    return some;
  }
  FakeApiServer api_;
  metrics::Registry registry_;
  std::unique_ptr<Client> client_;
  Object about_;
  std::unique_ptr<EventRecorder> recorder_;
};

TEST_F(EventsTest, WritesWhatPeopleSee) {
  record("CapReached", "api-calls: 1000 of 1000");
  ASSERT_TRUE(eventually([&] { return count("sent") == 1; }));
  const auto post = seen("POST").at(0);
  EXPECT_EQ(post.target, "/apis/events.k8s.io/v1/namespaces/shop/events?fieldManager=test");
  const auto event = nlohmann::json::parse(post.body);
  EXPECT_EQ(event["type"], "Warning");
  EXPECT_EQ(event["reason"], "CapReached");
  EXPECT_EQ(event["action"], "Reconcile");
  EXPECT_EQ(event["note"], "api-calls: 1000 of 1000");
  EXPECT_EQ(event["reportingController"], "example.dev/controller");
  EXPECT_EQ(event["reportingInstance"], std::string(128, 'p'));
  EXPECT_EQ(event["regarding"],
            nlohmann::json::parse(R"({"apiVersion":"example.dev/v1","kind":"Thing","name":"acme","namespace":"shop",)"
                                  R"("uid":"uid-1","resourceVersion":"7"})"));
  EXPECT_TRUE(event["metadata"]["name"].get<std::string>().starts_with("acme."));
  EXPECT_EQ(event["eventTime"].get<std::string>().size(), std::string("2026-01-01T00:00:00.000000Z").size());
}

TEST_F(EventsTest, TheSameAgainIsACount) {
  for (int i = 0; i < 10; ++i) record("CapReached", "same");
  record("CapReached", "another");
  recorder_->stop();
  EXPECT_EQ(seen("POST").size(), 2u);
  const auto patches = seen("PATCH");
  ASSERT_EQ(patches.size(), 2u) << "the second, and what came until the end";
  const auto name = nlohmann::json::parse(seen("POST")[0].body)["metadata"]["name"].get<std::string>();
  EXPECT_EQ(patches[0].target, "/apis/events.k8s.io/v1/namespaces/shop/events/" + name + "?fieldManager=test");
  EXPECT_EQ(nlohmann::json::parse(patches[0].body)["series"]["count"], 2);
  EXPECT_EQ(nlohmann::json::parse(patches[1].body)["series"]["count"], 10);
}

TEST_F(EventsTest, AnEventThatHasExpiredThereIsWrittenAnew) {
  record("CapReached", "same");
  ASSERT_TRUE(eventually([&] { return count("sent") == 1; }));
  api_.fail({404, "", R"({"details":{"name":"acme.1"}})"}, 1, [](const Seen& one) { return one.method == "PATCH"; });
  record("CapReached", "same");
  record("CapReached", "same");
  recorder_->stop();
  EXPECT_EQ(seen("POST").size(), 2u);
}

TEST_F(EventsTest, OneObjectGetsAShareOnly) {
  for (int i = 0; i < 100; ++i) record("Odd", "number " + std::to_string(i));
  about_.name.name = "other";
  record("Odd", "of another");
  recorder_->stop();
  EXPECT_EQ(seen("POST").size(), 26u);
  EXPECT_EQ(count("too_many"), 75);
}

TEST_F(EventsTest, NeverBlocksAndDropsWhatCannotBeSent) {
  api_.fail({429, "Retry-After: 1\r\n"}, -1, kAny);
  for (int i = 0; i < 5'000; ++i) record("Odd", "number " + std::to_string(i));
  EXPECT_GE(count("dropped"), 3'990);
  api_.forgive();
  ASSERT_TRUE(eventually([&] { return count("sent") == 25; }));
}

TEST_F(EventsTest, TriesAgainWhatFailedAndNotWhatIsRefused) {
  api_.fail({500, "", "{}"}, 1, kAny);
  record("Odd", "later");
  ASSERT_TRUE(eventually([&] { return count("sent") == 1; }));
  EXPECT_EQ(seen("POST").size(), 2u);
  api_.fail({403, "", R"({"message":"namespace is being terminated"})"}, 1, kAny);
  record("Odd", "refused");
  ASSERT_TRUE(eventually([&] { return count("dropped") == 1; }));
  EXPECT_EQ(seen("POST").size(), 3u);
}

TEST_F(EventsTest, CutsALongNoteBetweenCharacters) {
  std::string note(1'023, 'x');
  record("Odd", note + "üü");
  ASSERT_TRUE(eventually([&] { return count("sent") == 1; }));
  EXPECT_EQ(nlohmann::json::parse(seen("POST")[0].body)["note"], note);
}

}  // namespace
}  // namespace tallygate::kube
